"""The fixtures of every unit test."""

from tests.support.tiny import tiny_course  # noqa: F401
