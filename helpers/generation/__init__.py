"""One call of a pipeline and what surrounds it: records, sweeps, the queue,
running out of memory, code export.

It imports `pipelines` and what lies below; `analysis`, `widgets`, `exercises` and `cli` may import it.
"""
