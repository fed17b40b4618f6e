"""Benchmarks: runs a grid of tasks, methods, locality modes, markers and seeds, and compares the results."""
