"""How the miniatures were made: the drawn world, recipes, training. The course itself never imports it to make pictures."""
