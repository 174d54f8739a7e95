"""How the miniatures were made: the drawn world, the recipes, the training.

The course itself never imports it to make pictures.
"""
