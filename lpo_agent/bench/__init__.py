"""Benchmarks: a grid of tasks, methods, kinds of locality, markers and seeds, and what it shows."""
