"""The same cases on SLURM arrays and dask pools."""
