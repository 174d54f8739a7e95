"""Figures, sample sheets and the model card."""
