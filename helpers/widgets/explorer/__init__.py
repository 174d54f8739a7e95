"""The Explorer: every argument of a call as a control, and the image that it gives."""

from helpers.widgets.explorer.widget import Explorer

__all__ = ["Explorer"]
