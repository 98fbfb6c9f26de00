"""Ground floor: errors, whole-file writes, digests, task.json, schemas of stage files."""
