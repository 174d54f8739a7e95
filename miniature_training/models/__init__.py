"""What the recipes share: the training loop, noise and losses, drawn data and its latents, how weights are kept.

It imports the drawn world and, of the recipes, the text encoder's alone.
"""
