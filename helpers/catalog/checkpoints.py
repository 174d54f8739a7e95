"""Every checkpoint of the course under its course name, in both editions.

mini (the default): `.source` is a local folder with a miniature of the checkpoint, put together on first use.
full: `.source` is the checkpoint's id on the Hugging Face Hub. Looking at the catalogue downloads nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from helpers.catalog import devices, miniatures, revisions
from helpers.catalog.editions import edition
from helpers.common.sizes import GB
from helpers.common.validation import did_you_mean


class UnknownName(KeyError, ValueError):
    """A name that the course does not know; its message says which one was probably meant."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One checkpoint: what it is on the Hub, what it can do, and where this edition loads it from.

    size, source and load_kwargs follow the edition in use; everything else describes the full checkpoint.
    """

    name: str
    hub_id: str
    licence: str | None  # None: the publisher names none
    download_size: int  # bytes, approximately, the safety checker (never fetched) not counted
    family: str  # which classes fit: "sd", "sdxl", "kandinsky22", "upscale-x2", "controlnet", "lora", "depth" …
    latent_space: str  # latents pass only between checkpoints with equal names here
    tasks: tuple[str, ...]  # the first is what it is for; none for what makes no images itself
    parameters: Mapping[str, int]  # millions, by model
    full_size: int
    mini_size: int = 128
    variant: str | None = None  # the weights' file name suffix on the Hub
    pickled: bool = False  # no safetensors on the Hub
    chapters: tuple[str, ...] = ()  # the numbers of those that load it, or whose solutions do
    prior: str | None = None  # a second repository that belongs to it
    mini_instead: str = ""  # what the mini edition does without it, which has none

    @property
    def mini(self) -> bool:
        """Whether this edition uses the miniature."""
        return edition() == "mini"

    @property
    def size(self) -> int:
        """The side of the square image it was trained on, in pixels (for the upscalers: of their input)."""
        return self.size_in(edition())

    def size_in(self, edition: str) -> int:
        """`size` in the edition "mini" or "full"."""
        if edition == "full":
            return self.full_size
        return int(miniatures.recipes().get(self.name, {}).get("size", self.mini_size))

    @property
    def source(self) -> str:
        """What from_pretrained takes: the Hub id, or the folder of the miniature, put together on first use.

        Raises FileNotFoundError when the course ships no such miniature yet, or needs none.
        """
        if not self.mini:
            return self.hub_id
        if self.mini_instead:
            raise FileNotFoundError(
                f"the mini edition has no {self.name!r} and needs none: {self.mini_instead}. "
                "For the real checkpoint: use('full')."
            )
        return str(miniatures.assemble(self.name))

    @property
    def repositories(self) -> tuple[str, ...]:
        """The Hub repositories that the full checkpoint is read from, its own first."""
        return (self.hub_id, self.prior) if self.prior else (self.hub_id,)

    @property
    def load_kwargs(self) -> dict[str, Any]:
        """The keyword arguments of from_pretrained that belong to `source` on this machine."""
        import torch

        if self.mini:
            return {"dtype": torch.float32, "use_safetensors": True}
        kwargs: dict[str, Any] = {"dtype": devices.dtype(), "use_safetensors": True}
        if self.variant:
            kwargs["variant"] = self.variant
        if not self.prior and (pin := revisions.revision(self.hub_id)):  # diffusers would ask the prior for it as well
            kwargs["revision"] = pin
        if self.family == "sd":
            kwargs |= {"safety_checker": None, "requires_safety_checker": False}
        return kwargs

    def weights_in(self, edition: str) -> dict[str, int]:
        """The number of parameters of each of its models in the edition "mini" or "full"."""
        if edition == "mini":
            return {"miniature": 25_000_000}  # none has more, and every machine holds that
        return {model: millions * 1_000_000 for model, millions in self.parameters.items()}


class Catalog(dict[str, Checkpoint]):
    """Course name to Checkpoint; an unknown name raises an error that says what was probably meant."""

    def __missing__(self, name: object) -> Checkpoint:
        for checkpoint in self.values():
            if name == checkpoint.hub_id:
                raise UnknownName(f"{name!r} is a Hub id; in this course it is called {checkpoint.name!r}.")
        raise UnknownName(f"there is no checkpoint called {name!r}. {did_you_mean(str(name), self)}")


_OPENRAIL_M, _OPENRAIL_PP = "creativeml-openrail-m", "openrail++"
_SD = {"unet": 860, "text_encoder": 123, "vae": 84}
_PRIOR = {"prior_prior": 1025, "prior_image_encoder": 1845, "prior_text_encoder": 695}
_ANY = ("text2image", "image2image", "inpaint")


def _sd(name: str, hub_id: str, download_size: float, **other: Any) -> Checkpoint:
    """A checkpoint with Stable Diffusion 1.5's shapes and latent space."""
    return Checkpoint(
        name, hub_id, **{"licence": _OPENRAIL_M, "tasks": _ANY} | other, download_size=int(download_size * GB),
        family="sd", latent_space="sd15", parameters=_SD, full_size=512,
    )  # fmt: skip


def _sdxl(name: str, hub_id: str, download_size: float, **other: Any) -> Checkpoint:
    return Checkpoint(
        name, hub_id, **other, download_size=int(download_size * GB), licence=_OPENRAIL_PP, variant="fp16",
        family="sdxl", latent_space="sdxl", full_size=1024, mini_size=192,
    )  # fmt: skip


def _kandinsky(name: str, hub_id: str, **other: Any) -> Checkpoint:
    """A decoder with its prior: 5.3 GB (float32) and 9.2 GB."""
    return Checkpoint(
        name, hub_id, **other, licence="apache-2.0", download_size=int(14.5 * GB), family="kandinsky22",
        latent_space="kandinsky22", parameters={"unet": 1253, "movq": 68} | _PRIOR, full_size=768,
        prior="kandinsky-community/kandinsky-2-2-prior",
    )  # fmt: skip


def _controlnet(name: str, hub_id: str) -> Checkpoint:
    return Checkpoint(
        name, hub_id, licence="openrail", download_size=int(0.72 * GB), variant="fp16", family="controlnet",
        latent_space="sd15", tasks=(), parameters={"controlnet": 361}, full_size=512,
        chapters=("08",),
    )  # fmt: skip


# The x4 upscaler publishes no fp16 files; the SD1.5 styles neither.
CATALOG = Catalog(
    (checkpoint.name, checkpoint)
    for checkpoint in (
        _sd("sd15", "stable-diffusion-v1-5/stable-diffusion-v1-5", 2.1, variant="fp16",
            chapters=("01", "01b", "04", "05", "06", "07", "08", "09")),
        _sd("sd15-inpaint", "stable-diffusion-v1-5/stable-diffusion-inpainting", 2.1, variant="fp16",
            tasks=("inpaint",),
            chapters=("00", "01", "01b", "02", "03", "04", "05", "06", "07", "08", "09", "10")),
        _sdxl("sdxl-inpaint", "diffusers/stable-diffusion-xl-1.0-inpainting-0.1", 6.9, tasks=("inpaint",),
              parameters={"unet": 2568, "text_encoder": 123, "text_encoder_2": 695, "vae": 84},
              chapters=("03", "06", "07", "09")),
        _sdxl("sdxl-refiner", "stabilityai/stable-diffusion-xl-refiner-1.0", 6.1, tasks=("image2image", "inpaint"),
              parameters={"unet": 2260, "text_encoder_2": 695, "vae": 84}, chapters=("03", "05", "06", "07")),
        _kandinsky("kandinsky22", "kandinsky-community/kandinsky-2-2-decoder", tasks=("text2image", "image2image"),
                   chapters=("06",)),
        _kandinsky("kandinsky22-inpaint", "kandinsky-community/kandinsky-2-2-decoder-inpaint", tasks=("inpaint",),
                   chapters=("01", "03", "06")),
        _sd("comic", "ogkalu/Comic-Diffusion", 4.3, chapters=("06",)),
        _sd("pixel-art", "kohbanye/pixel-art-style", 4.3, licence=None, pickled=True, chapters=("06",)),
        _sd("elden-ring", "nitrosocke/elden-ring-diffusion", 4.3, pickled=True, chapters=("08",)),
        Checkpoint("upscale-x2", "stabilityai/sd-x2-latent-upscaler", _OPENRAIL_PP, int(2.3 * GB), "upscale-x2",
                   "sd15", ("upscale",), {"unet": 373, "text_encoder": 123, "vae": 84}, 512, chapters=("06",)),
        Checkpoint("upscale-x4", "stabilityai/stable-diffusion-x4-upscaler", _OPENRAIL_PP, int(3.5 * GB), "upscale-x4",
                   "upscale-x4", ("upscale",), {"unet": 473, "text_encoder": 340, "vae": 55}, 128, mini_size=64,
                   chapters=("06",)),
        _controlnet("controlnet-inpaint", "lllyasviel/control_v11p_sd15_inpaint"),
        _controlnet("controlnet-depth", "lllyasviel/control_v11f1p_sd15_depth"),
        Checkpoint("depth-estimator", "depth-anything/Depth-Anything-V2-Small-hf", "apache-2.0", int(0.1 * GB), "depth",
                   "none", (), {"model": 25}, 518, chapters=("08",)),
        Checkpoint("lcm", "latent-consistency/lcm-lora-sdv1-5", _OPENRAIL_PP, int(0.135 * GB), "lora", "sd15", (),
                   {"lora": 67}, 512, chapters=("09",)),
        Checkpoint("segmenter", "facebook/sam-vit-base", "apache-2.0", int(0.375 * GB), "segmentation", "none", (),
                   {"model": 94}, 1024, chapters=("02",), mini_instead="there select() tells colours apart"),
    )
)  # fmt: skip

DEPTH_ESTIMATOR = "depth-estimator"  # what depth_map() loads
FEW_STEPS = "lcm"  # what an Explorer's live images are made with
SEGMENTER = "segmenter"  # what select() loads in the full edition


def repositories(names: Iterable[str] = CATALOG) -> dict[str, str]:
    """Every Hub repository that these checkpoints are read from -> the course name it belongs to."""
    found: dict[str, str] = {}
    for name in names:
        for repo in CATALOG[name].repositories:
            found.setdefault(repo, name)
    return found
