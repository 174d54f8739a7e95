"""Bytes in words."""

from __future__ import annotations

MB, GB = 10**6, 10**9  # as disks and downloads are sold
MIB, GIB = 2**20, 2**30  # as memory is counted


def format_size(size: float) -> str:
    """A number of bytes in decimal units: "2.1 GB", "720 MB", "0.4 MB"."""
    if size >= GB:
        return f"{size / GB:.1f} GB"
    return f"{size / MB:.0f} MB" if size >= 10 * MB else f"{max(size / MB, 0.1 if size else 0):.1f} MB"
