"""The drawn world: scenes, how they are painted, captions that describe them, masks, styles.

It knows no model and imports nothing else of this package; whatever is trained learns from it.
"""
