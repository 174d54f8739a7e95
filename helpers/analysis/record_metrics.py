"""Quantities: what is measured of a record's picture, by name, with the picture before and the mask that it knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from PIL import Image

from helpers.analysis.image_metrics import adherence, change, seam, sharpness
from helpers.common.validation import did_you_mean
from helpers.generation import png_record
from helpers.generation.records import Record
from helpers.images.masks import fit

Quantity = str | Callable[[Record], float]

LABELS = {
    "change": "change (grey levels)",
    "change inside": "change inside the mask (grey levels)",
    "change outside": "change outside the mask (grey levels)",
    "seam": "seam at the mask's rim (grey levels)",
    "adherence": "adherence to the prompt (0 to 1)",
    "sharpness": "sharpness (variance of the Laplacian)",
    "seconds": "time of the call (seconds)",
}


def measured(records: Iterable[Record], quantity: Quantity) -> list[float]:
    """Measure the picture of each record; NaN for a record that failed.

    quantity: "change inside" or "change outside" (from the record's own image, by its mask), "change" (all of it),
        "seam", "adherence" (to the record's own prompt), "sharpness", "seconds"; or a function of a Record that returns
        a number. An image or mask of another size is fitted to the picture, as the pipeline does.

    ValueError for another name, and for a record that lacks the image, mask or prompt that the quantity needs.
    """
    records, measure = checked(records), _measure(quantity)
    return [math.nan if _failed(record) else _number(measure(record), quantity) for record in records]


def checked(records: Iterable[Record]) -> list[Record]:
    if isinstance(records, Record):
        raise TypeError("records is one Record: pass a list of them, such as list(sweep(...)).")
    records = list(records)
    if not records:
        raise ValueError(
            "records: nothing to measure; pass at least one Record. (A sweep can be run through only once.)"
        )
    if wrong := [record for record in records if not isinstance(record, Record)]:
        raise TypeError(f"records has a {type(wrong[0]).__name__}: expected Records, as sweep() yields them.")
    return records


def label(quantity: Quantity) -> str:
    """What an axis says."""
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
    return {
        "change": lambda record: change(_input(record, "image", quantity), record.image).inside,
        "change inside": lambda record: _change(record, quantity).inside,
        "change outside": lambda record: _change(record, quantity).outside,
        "seam": lambda record: seam(record.image, _input(record, "mask_image", quantity)),
        "adherence": lambda record: adherence(record.image, _input(record, "prompt", quantity)),
        "sharpness": lambda record: sharpness(record.image),
        "seconds": lambda record: record.seconds,
    }[quantity]


def _change(record: Record, quantity: str) -> Any:
    return change(_input(record, "image", quantity), record.image, _input(record, "mask_image", quantity))


def _input(record: Record, name: str, quantity: str) -> Any:
    """The record's own image or mask, in the size of its picture; or its prompt."""
    value = record.parameters.get(name)
    if value is None:
        raise ValueError(f"quantity={quantity!r} needs {name}, and a record was made without one.")
    if isinstance(value, png_record.Absent):
        raise ValueError(f"quantity={quantity!r} needs {name}, and a record was saved without its inputs.")
    if name == "prompt":
        return value
    if not isinstance(value, Image.Image):
        raise ValueError(f"quantity={quantity!r} needs {name} as a picture, and a record has a {type(value).__name__}.")
    return fit(value, record.image)


def _number(value: Any, quantity: Quantity) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"quantity: {_title(quantity)} returned {str(value)[:60]!r}; expected one number.") from None


def _title(quantity: Quantity) -> str:
    return quantity if isinstance(quantity, str) else getattr(quantity, "__name__", "the function")
