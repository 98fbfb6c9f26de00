"""The Python half of the Snakemake workflow: plan, fingerprints, task store, locks, GPU slots."""
