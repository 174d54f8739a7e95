"""The full edition's downloads and cache, on huggingface_hub.

It imports `common` and `catalog`; `images`, `pipelines` and everything above may import it.
"""
