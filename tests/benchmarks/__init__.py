"""Benchmarks: ratios of two ways to make the same pictures, measured in one run, printed and never asserted."""
