"""How well the ControlNets hold: the figures and sheets of `controlnet-depth` and `controlnet-inpaint`."""

from __future__ import annotations

import random

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image

from helpers.analysis.image_metrics import rank_correlation
from helpers.catalog.checkpoints import CATALOG
from helpers.catalog.miniatures import recipes
from miniature_training.evaluation import scores
from miniature_training.models.dataset import SIZE
from miniature_training.recipes import depth
from miniature_training.recipes.controls import depth_condition, inpaint_condition
from miniature_training.world.captions import PLACE_WORDS
from miniature_training.world.places import PLACES
from miniature_training.world.scenes import HELD_OUT, Drawing, draw, sample
from miniature_training.world.subjects import COLOURS

SUBJECTS = ("castle", "house", "tree", "lighthouse", "boat", "astronaut", "rock", "cat")
PLAIN = {"degraded": False, "palette": "plain", "on_bench": False, "bush": False}


def tasks(count: int) -> list[tuple[Drawing, str, dict[str, str]]]:
    """Held-out drawings, and prompts for the same thing in another colour and place."""
    rng, result = random.Random(HELD_OUT), []
    for i in range(count):
        scene = sample(HELD_OUT + i, subject=SUBJECTS[i % len(SUBJECTS)], **PLAIN)
        drawing = draw(scene, SIZE)
        colour = rng.choice([c for c in COLOURS if c != scene.colour])
        place = rng.choice([p for p in PLACES if p != scene.place])
        text = f"a {colour} {scene.subject} {rng.choice(PLACE_WORDS[place])}"
        result.append((drawing, text, {"subject": scene.subject, "colour": colour, "place": place}))
    return result


def conditions(kind: str, drawings: list[Drawing]) -> torch.Tensor:
    """The control images (B, 3, H, W) of some drawings; for "inpaint" the subject is cut out."""
    if kind == "depth":
        return depth_condition(torch.from_numpy(np.stack([np.asarray(d.depth) for d in drawings])))
    masks = np.stack([np.asarray(scores.subject_mask(d)) for d in drawings])
    return inpaint_condition(*(torch.from_numpy(v) for v in (np.stack([np.asarray(d.image) for d in drawings]), masks)))


def pipeline(kind: str, base: str, *, inpaint: bool):
    import diffusers

    net = ControlNetModel.from_pretrained(CATALOG[f"controlnet-{kind}"].source)
    named = "StableDiffusionControlNetInpaintPipeline" if inpaint else "StableDiffusionControlNetPipeline"
    pipe = getattr(diffusers, named).from_pretrained(CATALOG[base].source, controlnet=net)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to("cuda" if torch.cuda.is_available() else "cpu")


def made(
    pipe, drawings: list[Drawing], texts: list[str], *, control: torch.Tensor, scale: float = 1.0, steps: int = 25
) -> list[Image.Image]:
    """An image for each drawing under its control image; an inpainting pipeline repaints the subject's box."""
    images, inpaint = [], "Inpaint" in type(pipe).__name__
    for i in range(0, len(drawings), 20):
        part = drawings[i : i + 20]
        call = {"control_image" if inpaint else "image": control[i : i + 20]}
        if inpaint:
            call |= {"image": [d.image for d in part], "mask_image": [scores.subject_mask(d) for d in part]}
        width, height = part[0].image.size
        images += pipe(
            texts[i : i + 20], **call, width=width, height=height, num_inference_steps=steps,
            controlnet_conditioning_scale=scale,
            generator=[torch.Generator().manual_seed(HELD_OUT + i + k) for k in range(len(part))],
        ).images  # fmt: skip
    return images


def figures(count: int = 60, *, kind: str, steps: int = 25) -> dict[str, float]:
    """What the control holds with it and without (its scale at 0), on sd15 and on sd15-inpaint."""
    todo = tasks(count)
    drawings, texts, asked = ([task[i] for task in todo] for i in range(3))
    control, measured = conditions(kind, drawings), _depth if kind == "depth" else _kept
    result = {}
    for base, inpaint in (("sd15", False), ("sd15-inpaint", True)):
        pipe = pipeline(kind, base, inpaint=inpaint)
        images = {scale: made(pipe, drawings, texts, control=control, scale=scale, steps=steps) for scale in (1.0, 0.0)}
        for scale, without in ((1.0, ""), (0.0, "without_")):
            for name, value in measured(drawings, images[scale], inpaint=inpaint).items():
                result[f"inpaint_{without}{name}" if inpaint else f"{without}{name}"] = value
        right = scores.right(images[1.0], asked)
        heads = ("subject", "colour") if inpaint else ("subject", "colour", "place") if kind == "depth" else ()
        result |= {f"inpaint_{head}" if inpaint else head: right[head] for head in heads}
    return result


def _depth(drawings: list[Drawing], images: list[Image.Image], *, inpaint: bool) -> dict[str, float]:
    """Rank correlation of the estimated depth with the condition: of the whole, and in the box about the subject."""
    guesses, whole, near = depth.estimate(depth.load(), images), [], []
    for drawing, guess in zip(drawings, guesses, strict=True):
        truth, box = np.asarray(drawing.depth), np.asarray(scores.subject_mask(drawing)) > 0
        rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        whole.append(rank_correlation(truth, guess))
        near.append(rank_correlation(truth[window], guess[window]))
    found = {"depth_correlation": whole, "subject_depth_correlation": near}
    return {name: float(np.mean(values)) for name, values in found.items() if not inpaint or name.startswith("subject")}


def _kept(drawings: list[Drawing], images: list[Image.Image], *, inpaint: bool) -> dict[str, float]:
    """PSNR of what the mask leaves where only the control holds it; where it is repainted, the seam at its edge."""
    from helpers.analysis.image_metrics import seam

    masks = [scores.subject_mask(drawing) for drawing in drawings]
    if inpaint:
        return {"seam_levels": float(np.mean([seam(*pair) for pair in zip(images, masks, strict=True)]))}
    errors = []
    for drawing, image, mask in zip(drawings, images, masks, strict=True):
        first, second = (np.asarray(one, dtype=np.float32)[np.asarray(mask) == 0] for one in (drawing.image, image))
        errors.append(-10 * np.log10(np.square((first - second) / 255).mean() + 1e-9))
    return {"outside_db": float(np.mean(errors))}


def sheet(*, kind: str, count: int = 6, steps: int = 25) -> Image.Image:
    """Drawings, their control images, and what sd15, sd15-inpaint and the styles make under them."""
    from helpers.images.contact_sheet import show

    todo = tasks(count)
    drawings, texts = [task[0] for task in todo], [task[1] for task in todo]
    control = conditions(kind, drawings)
    bases = [name for name in ("sd15", "sd15-inpaint", "comic", "pixel-art", "elden-ring") if name in recipes()]
    rows = [[drawing.image for drawing in drawings]]
    rows.append([Image.fromarray(one) for one in (control.clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).numpy()])
    titles = [texts, ["control"] * len(todo)]
    for base in bases:
        pipe = pipeline(kind, base, inpaint=base == "sd15-inpaint")
        rows.append(made(pipe, drawings, texts, control=control, steps=steps))
        titles.append([base] * len(todo))
    return show(*sum(rows, []), titles=sum(titles, []), columns=len(todo))
