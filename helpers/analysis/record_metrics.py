"""What can be measured of a record's image, by name, with the input image, mask and prompt that the record holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from PIL import Image

from helpers.analysis.image_metrics import Change, adherence, change, seam, sharpness
from helpers.analysis.record_groups import as_records
from helpers.common.validation import did_you_mean
from helpers.generation.records import Record
from helpers.images.masks import fit

Quantity = str | Callable[[Record], float]

LABELS = {
    "change": "change (grey levels)",
    "change inside": "change inside the mask (grey levels)",
    "change outside": "change outside the mask (grey levels)",
    "seam": "seam at the mask's edge (grey levels)",
    "adherence": "adherence to the prompt (0 to 1)",
    "sharpness": "sharpness (variance of the Laplacian)",
    "seconds": "time of the call (seconds)",
}


def measured(records: Iterable[Record], quantity: Quantity) -> list[float]:
    """Measure the image of each record; NaN for a record that failed.

    quantity: "change inside" or "change outside" (from the record's own image, by its mask), "change" (all of it),
        "seam", "adherence" (to the record's own prompt), "sharpness", "seconds"; or a function of a Record that returns
        a number. An input of another size is fitted to the record's image, as the pipeline does.

    ValueError for another name, and for a record that lacks the image, mask or prompt that the quantity needs.
    """
    records, measure = as_records(records), _measure(quantity)
    return [math.nan if _failed(record) else _number(measure(record), quantity) for record in records]


def label(quantity: Quantity) -> str:
    """The label of an axis."""
    title = _title(quantity)
    return LABELS.get(title, "measured value" if title == "<lambda>" else title.replace("_", " "))


def _failed(record: Record) -> bool:
    return record.image is None or record.error is not None


def _measure(quantity: Quantity) -> Callable[[Record], Any]:
    if callable(quantity):
        return quantity
    if not isinstance(quantity, str):
        raise TypeError(f"quantity={quantity!r}: expected a name or a function of a Record.")
    if quantity not in LABELS:
        raise ValueError(f"quantity={quantity!r} is unknown. {did_you_mean(quantity, LABELS)} Or pass a function.")

    def given(record: Record, name: str) -> Any:
        return _input(record, name, quantity)

    def changed(record: Record) -> Change:
        return change(given(record, "image"), record.image, given(record, "mask_image"))

    return {
        "change": lambda record: change(given(record, "image"), record.image).inside,
        "change inside": lambda record: changed(record).inside,
        "change outside": lambda record: changed(record).outside,
        "seam": lambda record: seam(record.image, given(record, "mask_image")),
        "adherence": lambda record: adherence(record.image, given(record, "prompt")),
        "sharpness": lambda record: sharpness(record.image),
        "seconds": lambda record: record.seconds,
    }[quantity]


def _input(record: Record, name: str, quantity: str) -> Any:
    """The input image or mask, fitted to the image that was made; or the prompt."""
    value = record.parameters.get(name)
    if value is None:
        raise ValueError(f"quantity={quantity!r} needs {name}, and a record was made without one.")
    if name == "prompt":
        return value
    if not isinstance(value, Image.Image):
        raise ValueError(
            f"quantity={quantity!r} needs {name} as a PIL image, and a record has a {type(value).__name__}."
        )
    return fit(value, record.image)


def _number(value: Any, quantity: Quantity) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"quantity: {_title(quantity)} returned {str(value)[:60]!r}; expected one number.") from None


def _title(quantity: Quantity) -> str:
    return quantity if isinstance(quantity, str) else getattr(quantity, "__name__", "the function")
