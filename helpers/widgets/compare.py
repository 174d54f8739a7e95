"""Two pictures under one divider, in the notebook: what changed, to the pixel."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from PIL import Image

from helpers.common.validation import did_you_mean
from helpers.generation.records import Record
from helpers.images.contact_sheet import show
from helpers.images.masks import by
from helpers.images.reading import load_image
from helpers.widgets.mask_painter import MAX_PIXELS, _encoded, _file

STILL_SIDE = 1024  # pixels of the picture that stands in where no kernel runs
SAME_SHAPE = 0.01  # of its width, by which proportions may differ
LONGEST = 60  # letters of a title made from parameters


class Compare(anywidget.AnyWidget):
    """Shows two pictures in one place: the first left of a divider, the second right of it; the divider is dragged.

    before, after, more: what `load_image` takes, or Records. Of more than two, `left` and `right` say which two are
        shown, by number from 0. A smaller one is enlarged for the eye, its pixels left as they are; all must have the
        same proportions, or ValueError.
    titles: a text a picture. Default: for Records what they differ in, else "before" and "after", or numbers.

    `position` is how much of the width belongs to the left one, 0..1. `left`, `right` and `position` can be set in
    Python; the browser follows. With keys: arrows move the divider, with Shift in tens, Home and End to the rims.
    """

    _esm = Path(__file__).with_suffix(".js")
    _css = Path(__file__).with_suffix(".css")

    _pictures = traitlets.List(traitlets.Bytes(), help="as the browser shows them").tag(sync=True)
    _sizes = traitlets.List(help="width and height in pixels, of each").tag(sync=True)
    _titles = traitlets.List(traitlets.Unicode()).tag(sync=True)
    left = traitlets.Int(0).tag(sync=True)
    right = traitlets.Int(1).tag(sync=True)
    position = traitlets.Float(0.5).tag(sync=True)

    def __init__(self, before: Any, after: Any, *more: Any, titles: Any = None, **others: Any) -> None:
        known = ("titles", "left", "right", "position", "layout")
        for name in others.keys() - set(known):
            raise TypeError(f"Compare has no argument {name!r}. {did_you_mean(name, known)}")
        given = [before, after, *more]
        images = [_picture(one, number) for number, one in enumerate(given, 1)]
        _check_shapes(images)
        self._images = images
        try:  # all at once: the widget opens with its whole state
            super().__init__(
                _pictures=[_encoded(image) for image in images],
                _sizes=[list(image.size) for image in images],
                _titles=_named(given, titles),
                **others,
            )
        except traitlets.TraitError as error:
            raise TypeError(str(error)) from None

    @property
    def titles(self) -> list[str]:
        """The text of each picture."""
        return list(self._titles)

    def __repr__(self) -> str:
        return f"Compare({', '.join(self._titles)}: {by(self._images[0].size)} pixels)"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict]:
        """Adds all pictures side by side, which is what GitHub or a notebook without a kernel can show."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        still = show(*self._images, titles=self._titles)
        still.thumbnail((STILL_SIDE, STILL_SIDE))
        data["image/png"] = base64.b64encode(_file(still, "PNG")).decode()
        return data, metadata

    @traitlets.validate("left", "right")
    def _check_number(self, proposal: traitlets.Bunch) -> int:
        count = len(self._images)
        if not 0 <= proposal.value < count:
            raise ValueError(f"{proposal.trait.name}={proposal.value}: expected a picture's number, 0 to {count - 1}.")
        return proposal.value

    @traitlets.validate("position")
    def _check_position(self, proposal: traitlets.Bunch) -> float:
        if not 0 <= proposal.value <= 1:
            raise ValueError(
                f"position={proposal.value}: expected 0 (all of the right one) to 1 (all of the left one)."
            )
        return proposal.value


def _picture(what: Any, number: int) -> Image.Image:
    if isinstance(what, Record):
        if what.image is None:
            raise ValueError(f"picture {number} is a Record without a picture: {what.error}")
        what = what.image
    image = load_image(what)
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"picture {number} is {by(image.size)} pixels: Compare takes at most {MAX_PIXELS // 10**6} million. "
            "Make it smaller with load_image(..., size=...)."
        )
    return image


def _check_shapes(images: list[Image.Image]) -> None:
    first = images[0]
    for number, image in enumerate(images[1:], 2):
        if abs(image.width * first.height / (image.height * first.width) - 1) > SAME_SHAPE:
            raise ValueError(
                f"picture {number} is {by(image.size)} pixels, the first {by(first.size)}: their proportions differ, "
                "so no two points lie in one place. Use fit(picture, first), or crop them alike."
            )


def _named(given: list[Any], titles: Any) -> list[str]:
    if titles is not None:
        titles = [titles] if isinstance(titles, str) else [str(title) for title in titles]
        if len(titles) != len(given):
            raise ValueError(f"titles has {len(titles)} texts for {len(given)} pictures: give one each, or none.")
        return titles
    if all(isinstance(one, Record) for one in given):
        named = [_differences(one, given) for one in given]
        if len(set(named)) == len(named):
            return named
    return ["before", "after"] if len(given) == 2 else [f"no. {number}" for number in range(1, len(given) + 1)]


def _differences(record: Record, records: list[Record]) -> str:
    """The arguments that can be written down and are not the same in all records."""
    names = dict.fromkeys(name for one in records for name in one.parameters)
    parts = []
    for name in names:
        values = [one.parameters.get(name) for one in records]
        if all(isinstance(value, (str, int, float, type(None))) for value in values) and len(set(values)) > 1:
            parts.append(f"{name}={record.parameters.get(name)}")
    text = ", ".join(parts)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
