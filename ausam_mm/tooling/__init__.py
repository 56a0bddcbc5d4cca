"""What the tools and the benchmarks share; only they import it."""
