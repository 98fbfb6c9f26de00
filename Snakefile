# Where `snakemake` looks first, with the profiles beside it. The workflow is workflow/Snakefile.
# Start: uv run snakemake --cores all
include: "workflow/Snakefile"


workflow.default_target = "all"  # what is included says what to make to itself only
