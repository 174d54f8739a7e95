"""Reading, checking and showing images; masks and outpainting.

It imports `common`, `catalog` and `hub`; everything above may import it.
"""
