"""What tools, benchmarks and docs/generate.py share, and no one else."""
