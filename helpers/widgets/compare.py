"""Two images under one divider, in the notebook: what changed, to the pixel."""

from __future__ import annotations

from typing import Any

import traitlets
from PIL import Image

from helpers.common.validation import number, whole
from helpers.generation.records import Record
from helpers.images.contact_sheet import show
from helpers.images.masks import by
from helpers.widgets.assets import css, esm
from helpers.widgets.still import Number, StillWidget, Whole, encoded, read_image

STILL_SIDE = 1024  # pixels of the still
SAME_SHAPE = 0.01  # of its width, by which proportions may differ
LONGEST = 60  # letters of a title made from parameters


class Compare(StillWidget):
    """Shows two images in one place: the first left of a divider, the second right of it; the divider is dragged.

    before, after, more: what `load_image` takes, or Records. Of more than two, `left` and `right` say which two are
        shown, by number from 0. A smaller one is enlarged for the eye, its pixels left as they are; all must have the
        same proportions, or ValueError.
    titles: a text for each image. Default: for Records what they differ in, else "before" and "after", or numbers.

    `position` is how much of the width belongs to the left one, 0..1. `left`, `right` and `position` can be set in
    Python; the browser follows. With keys: arrows move the divider, with Shift in tens, Home and End to the edges.
    """

    _esm = esm("compare")
    _css = css("compare")

    _pictures = traitlets.List(traitlets.Bytes(), help="as the browser shows them").tag(sync=True)
    _sizes = traitlets.List(help="width and height in pixels, of each").tag(sync=True)
    _titles = traitlets.List(traitlets.Unicode()).tag(sync=True)
    left = Whole(0).tag(sync=True)
    right = Whole(1).tag(sync=True)
    position = Number(0.5).tag(sync=True)

    def __init__(
        self, before: Any, after: Any, *more: Any, titles: Any = None, left: int = 0, right: int = 1,
        position: float = 0.5, layout: Any = None,
    ) -> None:  # fmt: skip
        given = [before, after, *more]
        images = self._images = [_image(one, f"image {place}") for place, one in enumerate(given, 1)]
        _check_shapes(images)
        super().__init__(
            layout,
            _pictures=[encoded(image) for image in images],
            _sizes=[list(image.size) for image in images],
            _titles=_named(given, titles),
            left=left,
            right=right,
            position=position,
        )

    @property
    def titles(self) -> list[str]:
        """The text of each image."""
        return list(self._titles)

    def __repr__(self) -> str:
        return f"Compare({', '.join(self._titles)}: {by(self._images[0].size)} pixels)"

    def _still(self) -> Image.Image:
        still = show(*self._images, titles=self._titles)
        still.thumbnail((STILL_SIDE, STILL_SIDE))
        return still

    @traitlets.validate("left", "right")
    def _check_number(self, proposal: traitlets.Bunch) -> int:
        return whole(proposal.trait.name, proposal.value, least=0, most=len(self._images) - 1)

    @traitlets.validate("position")
    def _check_position(self, proposal: traitlets.Bunch) -> float:
        return number("position", proposal.value, low=0, high=1)


def _image(what: Any, name: str) -> Image.Image:
    if isinstance(what, Record):
        if what.image is None:
            raise ValueError(f"{name} is a Record without an image: {what.error}")
        what = what.image
    return read_image(what, name, widget="Compare")


def _check_shapes(images: list[Image.Image]) -> None:
    first = images[0]
    for place, image in enumerate(images[1:], 2):
        if abs(image.width * first.height / (image.height * first.width) - 1) > SAME_SHAPE:
            raise ValueError(
                f"image {place} is {by(image.size)} pixels, the first {by(first.size)}: their proportions differ, "
                "so no two points lie in one place. Use fit(image, first), or crop them alike."
            )


def _named(given: list[Any], titles: Any) -> list[str]:
    if titles is not None:
        titles = [titles] if isinstance(titles, str) else [str(title) for title in titles]
        if len(titles) != len(given):
            raise ValueError(f"titles has {len(titles)} texts for {len(given)} images: give one each, or none.")
        return titles
    if all(isinstance(one, Record) for one in given):
        titles = _differences([record.parameters for record in given])
        if len(set(titles)) == len(titles):
            return titles
    return ["before", "after"] if len(given) == 2 else [f"no. {place}" for place in range(1, len(given) + 1)]


def _differences(calls: list[dict[str, Any]]) -> list[str]:
    """Of each call, the arguments that can be written down and are not the same in all calls."""
    names = dict.fromkeys(name for call in calls for name in call)
    columns = {name: [call.get(name) for call in calls] for name in names}
    told = [
        name for name, values in columns.items()
        if all(isinstance(value, (str, int, float, type(None))) for value in values) and len(set(values)) > 1
    ]  # fmt: skip
    texts = [", ".join(f"{name}={call.get(name)}" for name in told) for call in calls]
    return [text if len(text) <= LONGEST else text[: LONGEST - 1] + "…" for text in texts]
