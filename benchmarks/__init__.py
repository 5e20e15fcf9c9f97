"""Benchmarks: ratios measured in one run, never timed tests. ``python -m benchmarks --help`` lists them."""
