"""A digest of an image's or tensor's content: equal pixels, equal digest."""

from __future__ import annotations

import hashlib
from typing import Any

from PIL import Image


def digest_of(value: Any) -> str:
    """SHA-256 of a PIL image's mode, size and pixels, or of a tensor's or array's dtype, shape and values."""
    if isinstance(value, Image.Image):
        head, data = f"{value.mode} {value.size}", value.tobytes()
    else:
        import numpy as np
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        head, data = f"{tensor.dtype} {tuple(tensor.shape)}", flat.view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(head.encode() + b"\n" + data).hexdigest()
