"""Measures, charts, grids, benchmarks and the scene classifier.

It imports `generation` and what lies below, never `widgets`; `exercises` and notebooks may import it.
"""
