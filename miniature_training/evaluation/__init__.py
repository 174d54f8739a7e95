"""What the miniatures can do: figures on scenes that no training has seen, sample sheets, the model card.

It stands on the recipes; of it, they use the ruler, the probe of styles and the figures' own prompts.
"""
