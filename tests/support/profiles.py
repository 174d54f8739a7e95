"""Colour profiles for tests, built from their definitions: primaries and curves, grey curves, a table for CMYK."""

from __future__ import annotations

import itertools
import struct

import numpy as np

D50 = (0.9642, 1.0, 0.8249)
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
# red, green, blue, white (x, y) and gamma
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), (0.3127, 0.3290), 563 / 256)
DISPLAY_P3 = ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.3127, 0.3290), 2.2)
PROPHOTO = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585), 1.8)


def matrix(red, green, blue, white, gamma) -> np.ndarray:
    """Linear RGB to XYZ under D50."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in (red, green, blue)]).T
    point = np.array([white[0] / white[1], 1, (1 - sum(white)) / white[1]])
    adapted = np.linalg.inv(BRADFORD) @ np.diag(BRADFORD @ D50 / (BRADFORD @ point)) @ BRADFORD
    return adapted @ (columns * np.linalg.solve(columns, point))


def in_srgb(values, space) -> np.ndarray:
    """0..255 in an RGB space to 0..255 in sRGB, by the definitions of both."""
    linear = matrix(*space) @ (np.asarray(values) / 255) ** space[-1]
    srgb = np.linalg.solve(matrix((0.64, 0.33), (0.3, 0.6), (0.15, 0.06), (0.3127, 0.3290), 0), linear).clip(0, 1)
    return 255 * np.where(srgb <= 0.0031308, 12.92 * srgb, 1.055 * srgb ** (1 / 2.4) - 0.055)


def rgb_profile(space, extra: int = 0) -> bytes:
    """extra: bytes of padding, for a profile of any length."""
    curve = _curve(space[-1])
    tags = {b"wtpt": _xyz(D50), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    tags |= {b"%cXYZ" % name: _xyz(column) for name, column in zip(b"rgb", matrix(*space).T, strict=True)}
    return _profile(b"RGB ", b"mntr", tags | ({b"pad0": b"data" + bytes(4 + extra)} if extra else {}))


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", b"mntr", {b"wtpt": _xyz(D50), b"kTRC": _curve(gamma)})


def cmyk_profile() -> bytes:
    """A printer whose inks let through no light at all: paper is white, each full ink takes its part away."""
    grid = 5
    srgb = matrix((0.64, 0.33), (0.3, 0.6), (0.15, 0.06), (0.3127, 0.3290), 0)
    table = b""
    for inks in itertools.product(np.linspace(0, 1, grid), repeat=4):
        light = (1 - np.array(inks[:3])) * (1 - inks[3])
        xyz = srgb @ light / D50
        f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
        lab = 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
        table += bytes(int(v) for v in np.clip(np.round([lab[0] * 2.55, lab[1] + 128, lab[2] + 128]), 0, 255))
    identity = bytes(range(256))
    head = b"mft1" + bytes(4) + bytes([4, 3, grid, 0]) + b"".join(_fixed(v) for v in np.eye(3).ravel())
    tags = {b"wtpt": _xyz(D50), b"A2B0": head + identity * 4 + table + identity * 3}
    return _profile(b"CMYK", b"prtr", tags, pcs=b"Lab ")


def _profile(space: bytes, kind: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ") -> bytes:
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78)} | tags
    at, index, body = 132 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        index += name + struct.pack(">II", at + len(body), len(content))
        body += content
    head = bytes(4) + struct.pack(">I", 0x02200000) + kind + space + pcs + bytes(12) + b"acsp" + bytes(28)
    head += b"".join(_fixed(value) for value in D50)
    content = head + bytes(124 - len(head)) + struct.pack(">I", len(tags)) + index + body
    return struct.pack(">I", len(content) + 4) + content


def _xyz(values) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(value) for value in values)


def _curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(float(value) * 65536))
