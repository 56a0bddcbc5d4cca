"""What the command-line tools and the benchmarks share; only they import it.
"""
