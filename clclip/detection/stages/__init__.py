"""The stages that the workflow's rules call: train, predict, calibrate."""
