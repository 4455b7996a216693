"""HTML reports of runs and benchmarks."""
