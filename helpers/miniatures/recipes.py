"""Every recipe by the name of what it trains."""

from __future__ import annotations

from collections.abc import Callable


def _vae(**options) -> None:
    from . import vae

    vae.train(**options)


def _vae_decoder(**options) -> None:
    from . import vae

    vae.train(decoder_only=True, **options)


def _text(**options) -> None:
    from . import text

    text.train(**options)


def _classifier(**options) -> None:
    from . import judge

    judge.train(**options)


def _sd15(**options) -> None:
    from . import unet

    unet.train(**options)


def _sd15_again(**options) -> None:
    from . import unet

    unet.train(from_inpaint=True, **options)


def _sd15_inpaint(**options) -> None:
    from . import unet

    unet.train(inpaint=True, **options)


RECIPES: dict[str, Callable[..., None]] = {
    "vae": _vae,
    "vae-decoder": _vae_decoder,
    "text_encoder": _text,
    "classifier": _classifier,
    "sd15": _sd15,
    "sd15-inpaint": _sd15_inpaint,
    "sd15-again": _sd15_again,
}
