"""What the rules call: build, train, predict, recall, probe."""
