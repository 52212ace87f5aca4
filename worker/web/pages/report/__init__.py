"""Reports about a job, a file or a person: as a page, and as one file that needs nothing else."""
