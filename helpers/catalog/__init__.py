"""Every checkpoint and course image: names, Hub ids, licences, sizes; the edition, devices and memory plan;
putting miniatures together.

It imports `common`; everything above may import it.
"""
