"""Widgets of the course: each is one module, one plain ES module and one stylesheet, with no build step and no CDN."""

from helpers.widgets.compare import Compare
from helpers.widgets.explorer.widget import Explorer
from helpers.widgets.mask_painter import MaskPainter
from helpers.widgets.steps import Steps
from helpers.widgets.token_weights import TokenWeights

__all__ = ["Compare", "Explorer", "MaskPainter", "Steps", "TokenWeights"]
