"""Workshops in which recipes train for a moment."""

from tests.support.workshop import workshop  # noqa: F401
from tests.support.xl import xl  # noqa: F401
