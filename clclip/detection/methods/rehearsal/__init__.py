"""What fvit_replay and fvit_ior share: memory, pasting, batches."""
