"""A stand-in for the page that shows a widget: it sends the messages of a browser, and keeps what it is told."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from helpers import MaskPainter


class Browser:
    """One page. `heard` has the custom messages, each with its buffers."""

    def __init__(self, widget: Any) -> None:
        self.widget, self.heard = widget, []
        plain = widget.comm.send

        def send(data: dict, *others: Any, buffers: Any = None, **more: Any) -> None:
            if data["method"] == "custom":
                self.heard.append((data["content"], buffers or []))
            plain(data, *others, buffers=buffers, **more)

        widget.comm.send = send

    def send(self, kind: str, *buffers: bytes, **content: Any) -> str:
        """A message of the page; returns why it was refused, or nothing."""
        before = len(self.heard)
        message = {"method": "custom", "content": {"kind": kind, **content}}
        self.widget.comm.handle_msg({"content": {"data": message}, "buffers": list(buffers)})
        return " ".join(said["text"] for said, _ in self.heard[before:] if said["kind"] == "refused")

    def change(self, *, moving: bool = False, **values: Any) -> str:
        return self.send("change", values=values, moving=moving)

    def paint(self, mask: Image.Image) -> None:
        """A stroke on the Explorer's image, after which its mask is this one."""
        self.widget._session.painter.mask = mask

    def draw(self, mask: Image.Image | None) -> str:
        """A stroke that goes on, by which the mask is this one so far; None: it is given up."""
        return self.send("draw", *([] if mask is None else [MaskPainter(mask, mask).mask_bits]))

    def __getitem__(self, trait: str) -> Any:
        """What the page knows of the widget."""
        known = self.widget.get_state(trait)[trait]
        return getattr(self.widget, trait) if str(known).startswith("IPY_MODEL_") else known

    @property
    def phase(self) -> str:
        return self["_state"]["phase"]

    @property
    def kind(self) -> str:
        """Of the image that is shown."""
        return self["_state"]["kind"]

    @property
    def text(self) -> str:
        return self["_state"]["text"]

    @property
    def shown(self) -> int | None:
        """The number of the image that is shown, in the history."""
        return self["_state"]["shown"]

    @property
    def values(self) -> dict[str, Any]:
        return dict(self["_values"])

    def image(self, trait: str) -> Image.Image:
        with Image.open(io.BytesIO(self[trait])) as image:
            image.load()
            return image


def same(one: Image.Image, other: Image.Image) -> bool:
    return (one.mode, one.size, one.tobytes()) == (other.mode, other.size, other.tobytes())
