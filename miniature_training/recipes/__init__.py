"""One recipe for each miniature: how it is built, from what it starts, its loss, its figures and its sheet.

`registry.RECIPES` names their `train` functions; recipes import the drawn world, what they share, and each other.
"""
