"""What a newcomer types first: run the workflow, write an experiment file, look at the machine."""
