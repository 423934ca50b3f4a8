"""Benchmarks: ratios to what the machine's own tools reach, each taken in one run."""
