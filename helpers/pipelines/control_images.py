"""Control images: what a ControlNet looks at besides the prompt, of exactly the size of the image they are made from.

    inpaint_condition(image, mask)    controlnet-inpaint: the image, with -1 where it is repainted
    depth_map(image)                  controlnet-depth: near is white, far is black
    canny_edges(image)                edges, for a ControlNet that was trained on them

Which argument takes it depends on the pipeline's class. For text-to-image it is `image`, since there is no other
image; for image-to-image and inpainting `image` is what is painted over, and the control image is `control_image`.
`control_argument(pipe)` tells. Image-to-image does not resize it, so its size must be that of `image`.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from helpers.catalog.checkpoints import DEPTH_ESTIMATOR
from helpers.common.validation import check_size, number
from helpers.images import reading
from helpers.images.digest import digest_of
from helpers.images.masks import THRESHOLD, check_mask, fit
from helpers.images.reading import load_image
from helpers.pipelines import inspection
from helpers.pipelines.loading import image_reader

if TYPE_CHECKING:
    import torch

_GRID = 64  # pixels: controlnet_aux resizes what is no multiple of it
_SMALLEST, _NARROW = 32, 16  # pixels, and times as long as wide: the depth estimator is shown nothing beyond


def inpaint_condition(image: Any, mask: Any) -> torch.Tensor:
    """The image as controlnet-inpaint expects it: a tensor (1, 3, H, W), 0..1, and -1 where the mask is white.

    -1 is no colour, so the ControlNet can tell what not to copy. image: what `load_image` takes. mask: of the
    same size, cut at 50 % as the pipelines do. Sides that are not multiples of 8, and masks that `check_mask` refuses,
    raise ValueError. The pipelines do not crop tensors: with padding_mask_crop the ControlNet would look at
    the whole image while only the crop is painted.
    """
    import torch

    image = load_image(image)
    check_size(image, name="image")
    white = np.asarray(check_mask(mask, image)) >= THRESHOLD  # (H, W)
    values = np.asarray(image, dtype=np.float32) / 255  # (H, W, 3)
    values[white] = -1.0
    return torch.from_numpy(values.transpose(2, 0, 1)[None].copy())


def depth_map(image: Any, *, estimate: bool = False) -> Image.Image:
    """How near everything is: white is the nearest point of this image, black the farthest; mode "RGB", grey.

    image: what `load_image` takes. For the course's own drawings, in any size, the depth is known: the
    program that drew them stored it. For all others, and with `estimate=True` for these too, a model estimates it:
    transformers' "depth-estimation" pipeline with `CATALOG["depth-estimator"]`, which the full edition downloads.
    FileNotFoundError where this edition has no estimator.
    """
    image = load_image(image)
    known = None if estimate else _known(reading.IMAGES, image.size).get(digest_of(image))
    if known is not None:
        with Image.open(known) as drawn:
            depth = np.asarray(drawn.resize(image.size, Image.Resampling.BILINEAR), dtype=np.float32)
    else:
        depth = _estimate(image)
    low, high = float(depth.min()), float(depth.max())
    grey = (depth - low) / max(high - low, 1e-6) * 255
    return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")


def canny_edges(image: Any, *, low_threshold: float = 100, high_threshold: float = 200) -> Image.Image:
    """The image's edges by controlnet_aux's `CannyDetector`: white lines on black; mode "RGB", the image's size.

    A step in brightness above `high_threshold` begins a line, and one above `low_threshold` continues it. Raises
    ValueError unless 0 <= low_threshold <= high_threshold. (Canny, https://doi.org/10.1109/TPAMI.1986.4767851)
    """
    number("low_threshold", low_threshold, low=0)
    number("high_threshold", high_threshold, low=0)
    if low_threshold > high_threshold:
        raise ValueError(f"low_threshold={low_threshold} is above high_threshold={high_threshold}: swap them.")
    image = load_image(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about detectors that nobody asked for
        from controlnet_aux import CannyDetector  # takes seconds: after all that can be wrong
    height, width = image.height, image.width
    # Repeated border pixels bring it to sizes that the detector leaves alone; they add no edges, and are cut off again.
    padded = np.pad(np.asarray(image), ((0, -height % _GRID), (0, -width % _GRID), (0, 0)), mode="edge")
    detector: Any = CannyDetector()
    side = min(padded.shape[:2])
    thresholds = {"low_threshold": low_threshold, "high_threshold": high_threshold}
    edges = detector(padded, **thresholds, detect_resolution=side, image_resolution=side)
    return Image.fromarray(edges[:height, :width].copy())


def control_argument(pipe: Any) -> str | None:
    """The argument of this pipeline's call that takes the control image; None where it has no ControlNet."""
    if "controlnet" not in getattr(pipe, "components", {}):
        return None
    return "control_image" if "control_image" in inspection.parameters_of(pipe) else "image"


@functools.lru_cache(maxsize=8)
def _known(folder: Path, size: tuple[int, int]) -> dict[str, Path]:
    """The files of the known depths, by the digest of their image in this size."""
    files = {folder / f"{file.stem.removesuffix('_depth')}.png": file for file in sorted(folder.glob("*_depth.png"))}
    pairs = ((fit(load_image(image), size), depth) for image, depth in files.items() if image.is_file())
    return {digest_of(image): depth for image, depth in pairs}


def _estimate(image: Image.Image) -> np.ndarray:
    """Depth (H, W) by the model, larger is nearer.

    The model's processor leaves nothing of an image, or of a side, that is very small; repeated border pixels make up
    for it, and are cut off again.
    """
    width, height = image.size
    least = max(_SMALLEST, -(-max(image.size) // _NARROW))
    if min(image.size) < least:
        pads = ((0, max(0, least - height)), (0, max(0, least - width)), (0, 0))
        image = Image.fromarray(np.pad(np.asarray(image), pads, mode="edge"))
    reader = image_reader(DEPTH_ESTIMATOR)
    import transformers

    model, processor = reader["model"], reader["processor"]
    estimator: Any = transformers.pipeline(
        "depth-estimation", model=model, image_processor=processor, device=model.device, dtype=model.dtype
    )
    with np.errstate(invalid="ignore"):  # a flat image has no range; ours is spread above
        return estimator(image)["predicted_depth"].float().cpu().numpy()[:height, :width]
