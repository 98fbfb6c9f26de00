"""Projects for Snakemake to run, with stand-ins for the stages, killed jobs and a SLURM."""
