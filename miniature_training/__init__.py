"""How the miniatures were made: a drawn world, one recipe for each model, their training and their figures.

Run as `python -m miniature_training`; the course (`helpers`) never imports it.
"""
