"""What a user writes: experiments, streams, variants, run lists; torch-free."""
