"""The steps of one call under a slider, in the notebook: what goes in, what comes out, and what each word looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets
from PIL import Image

from helpers.common.png import png_bytes
from helpers.common.validation import whole
from helpers.generation import inside
from helpers.generation.records import Record
from helpers.images.contact_sheet import show
from helpers.pipelines import latent_preview
from helpers.pipelines.inspection import autoencoder
from helpers.widgets.assets import css, esm
from helpers.widgets.still import StillWidget

SIDE = 256  # pixels of the longer side of an image in the browser, at most
STILL_STEPS, STILL_SIDE = 5, 720
TITLES = {
    "noised": "Noised latents",
    "clean": "Predicted clean image",
    "guidance": "What guidance changed",
    "mask": "What the mask brings in",
    "attention": "Where a word looks",
}
_RAMP = ((30, 10, 90, 40), (200, 50, 70, 130), (255, 150, 30, 175), (255, 240, 120, 215))  # from 0 to 1, RGBA


class Steps(StillWidget):
    """Shows what happens inside one call, step by step; the call is made once, when the widget is.

    pipe: a pipeline of Stable Diffusion, SDXL or Kandinsky, as load() returns it; it stays as it is.
    call: the arguments of the call under diffusers' names; seed (0) instead of a generator. The image is the plain
        call's, bit for bit.

    At each step: the latents that the UNet is given; the clean image that follows from its answer, decoded; what
    guidance changed in that (grey: nothing); for inpainting, what the mask brings in; and how much each place attends
    to a word. A panel that this call cannot have says why. Latents are drawn by the preview map of the VAE, one square
    each; a VAE without one, as in the full edition, decodes them.

    step: the one that is shown, 1 to `count`. word: the number of one of `words`. Both can be set in Python; the
    browser follows. With keys: arrows move the slider, Home and End to its ends. record, image: what the call made.
    ValueError or TypeError, before any model runs, for a pipeline without callback_on_step_end, a compiled UNet, no
    step to run, and arguments that the pipeline does not take.
    """

    _esm = esm("steps")
    _css = css("steps")

    _steps = traitlets.List(help="timestep, and the amplitude of image and noise in it").tag(sync=True)
    _titles = traitlets.Dict(help="of each panel").tag(sync=True)
    _pictures = traitlets.Dict(help="a PNG a step, for each panel that has any").tag(sync=True)
    _missing = traitlets.Dict(help="why a panel has none").tag(sync=True)
    _result = traitlets.Bytes(help="the call's image, a PNG").tag(sync=True)
    _attention = traitlets.Bytes(help="a byte for each step, word, row and column").tag(sync=True)
    _grid = traitlets.List(help="rows and columns of it").tag(sync=True)
    _ramp = traitlets.Bytes(help="256 colours, RGBA").tag(sync=True)
    _words = traitlets.List(traitlets.Unicode()).tag(sync=True)
    step = traitlets.Int(1).tag(sync=True)
    word = traitlets.Int(0).tag(sync=True)

    def __init__(self, pipe: Any, *, layout: Any = None, **call: Any) -> None:
        record, steps, inner = inside.run(pipe, **call)
        if record.image is None or record.error or not steps:
            raise ValueError(f"the call made no image to look into: {record.error or 'no step ran'}")
        self.record: Record = record
        self._image = record.image
        self._views, missing = _views(inner, steps)
        words, self._maps = _attention(inner, steps, record.parameters.get("prompt"))
        if not words:
            missing["attention"] = _why_no_words(inner, record.parameters)
        super().__init__(
            layout,
            _steps=[[step.timestep, step.kept**0.5, (1 - step.kept) ** 0.5] for step in steps],
            _titles=TITLES,
            _pictures={
                name: [png_bytes(image, quick=True) for image in images] for name, images in self._views.items()
            },
            _missing=missing,
            _result=png_bytes(_small(record.image), quick=True),
            _attention=self._maps.tobytes(),
            _grid=list(self._maps.shape[2:]),
            _ramp=_ramp().tobytes(),
            _words=words,
            word=_narrowest(words, self._maps),
            step=len(steps),
        )

    @property
    def image(self) -> Image.Image:
        """The image that the call made."""
        return self._image.copy()

    @property
    def count(self) -> int:
        """How many steps ran."""
        return len(self._steps)

    @property
    def words(self) -> list[str]:
        """The words of the prompt, as far as the text encoder reads it; none where there is no attention to show."""
        return list(self._words)

    def __repr__(self) -> str:
        return f"Steps({self.record.origin.get('pipeline', 'call')}: {self.count} steps, step={self.step})"

    def _still(self) -> Image.Image:
        """Some of the steps side by side, a row for each panel."""
        chosen = sorted({round(place) for place in np.linspace(0, self.count - 1, STILL_STEPS)})
        rows = {TITLES[name]: [images[place] for place in chosen] for name, images in self._views.items()}
        if self._words:
            rows[f"Where “{self._words[self.word]}” looks"] = [self._heated(place) for place in chosen]
        titles = [f"step {place + 1}: {name}" for name in rows for place in chosen]
        still = show(*(image for images in rows.values() for image in images), titles=titles, columns=len(chosen))
        still.thumbnail((STILL_SIDE, 2 * STILL_SIDE))
        return still

    def _heated(self, place: int) -> Image.Image:
        """The predicted image of a step under the map of the chosen word, as the browser draws it."""
        under = self._views["clean"][place].convert("RGBA")
        colours = Image.fromarray(_ramp()[self._maps[place, self.word]], "RGBA")
        return Image.alpha_composite(under, colours.resize(under.size, Image.Resampling.BILINEAR)).convert("RGB")

    @traitlets.validate("step")
    def _check_step(self, proposal: traitlets.Bunch) -> int:
        return whole("step", proposal.value, least=1, most=max(1, len(self._steps)))

    @traitlets.validate("word")
    def _check_word(self, proposal: traitlets.Bunch) -> int:
        return whole("word", proposal.value, least=0, most=max(0, len(self._words) - 1))


def _views(inner: Any, steps: list[inside.Step]) -> tuple[dict[str, list[Image.Image]], dict[str, str]]:
    """An image a step for each panel, and for those without any the reason."""
    import torch

    views: dict[str, list[Image.Image]] = {"noised": [_colours(inner, step.noised) for step in steps], "clean": []}
    missing: dict[str, str] = {}
    guided = steps[0].unprompted is not None
    if guided:
        views["guidance"] = []
    else:
        missing["guidance"] = "Not available here, because guidance is off: the UNet is asked once a step."
    for step in steps:
        clean = [step.clean(step.guided), *([step.clean(step.prompted)] if guided else [])]
        images = [_small(image) for image in inside.decode(inner, torch.stack(clean))]
        views["clean"].append(images[0])
        if guided:
            apart = np.asarray(images[0], np.float32) - np.asarray(images[1], np.float32)
            views["guidance"].append(Image.fromarray((128 + apart / 2).clip(0, 255).astype(np.uint8)))
    masked = [_mask_view(inner, step) for step in steps]
    found = [image for image in masked if image is not None]
    if found:  # a step at which nothing was put back has an empty one
        views["mask"] = [image or Image.new("RGB", found[0].size, (128, 128, 128)) for image in masked]
    else:
        missing["mask"] = "Not available here, because the call has no mask, or a mask that keeps nothing."
    return views, missing


def _mask_view(inner: Any, step: inside.Step) -> Image.Image | None:
    """What comes from the original image, grey where the mask repaints."""
    brought = step.brought()
    if brought is None:
        return None
    source, repaint = brought
    colours = np.array(_colours(inner, source))
    colours[repaint.numpy()] = 128
    return Image.fromarray(colours)


def _colours(inner: Any, latents: Any) -> Image.Image:
    """Latents (C, h, w) as an image of one pixel each."""
    latent_map = latent_preview.map_of(autoencoder(inner))
    if latent_map is not None and latent_map.channels == len(latents):
        return Image.fromarray(latent_map(latents.numpy().astype(np.float64)))
    image = inside.decode(inner, latents[None])[0]
    return image.resize(latents.shape[:0:-1], Image.Resampling.BOX)


def _small(image: Image.Image) -> Image.Image:
    image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE))
    return image


def _attention(inner: Any, steps: list[inside.Step], prompt: Any) -> tuple[list[str], np.ndarray]:
    """The prompt's words, and their maps (steps, words, rows, columns), each word's from 0 to 255 over all steps."""
    empty = np.zeros((len(steps), 0, 1, 1), np.uint8)
    if not isinstance(prompt, str) or steps[0].attention is None:
        return [], empty
    words = inside.words_of(inner, prompt)
    if not words:
        return [], empty
    maps = np.stack([[step.attention[places].sum(0).numpy() for _, places in words] for step in steps])
    low, high = (edge(axis=(0, 2, 3), keepdims=True) for edge in (maps.min, maps.max))
    return [word for word, _ in words], ((maps - low) / (high - low + 1e-9) * 255).astype(np.uint8)


def _why_no_words(inner: Any, parameters: dict[str, Any]) -> str:
    reason = "" if parameters.get("prompt") else "the call has no prompt in words"
    return f"Not available here, because {inside.no_attention(inner) or reason or 'no attention to words was seen'}."


def _narrowest(words: list[str], maps: np.ndarray) -> int:
    """The word that looks most at one place; an article only where there is nothing else."""
    spread = maps.std(axis=(2, 3)).mean(axis=0)
    return max(range(len(words)), key=lambda place: (len(words[place]) > 2, spread[place]), default=0)


def _ramp() -> np.ndarray:
    """256 colours from "hardly" to "most", (256, 4), uint8."""
    at = np.linspace(0, len(_RAMP) - 1, 256)
    channels = [np.interp(at, np.arange(len(_RAMP)), [stop[channel] for stop in _RAMP]) for channel in range(4)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
