"""The model card of the miniatures, written from their files and their measured figures."""

from __future__ import annotations

import json
import textwrap

from helpers.common import paths
from miniature_training.models.store import shipped

HEAD = """\
# Model card: the miniatures

Small diffusers checkpoints that this project trained itself, on images that a program draws
(`miniature_training/world`). They exist to teach: the classes and arguments of the real checkpoints, at a size
that a laptop's CPU runs. Licence: Apache-2.0, weights and drawings alike; no image, weight or text of others went in.

This page is written by `python -m miniature_training card`, from the weights' files and `figures.json`.

## What they know

One drawn world: ten subjects (castle, house, cat, boat, tree, rock, astronaut, waterfall, bench, lighthouse) in ten
colours, seven places, four hours, four palettes, two attributes (glowing eyes, elven), and five ways for an image to
be bad (blurred, blocky, noisy, washed out, deformed). Words outside this world mean nothing to them. Images of
128 x 128 pixels, SDXL's of 192 x 192.

## The recipes

`python -m miniature_training train NAME --minutes M [--resume]`, seeded, on a CPU or a CUDA GPU. This is what the
recipes do today. Weights stay until their recipe is run again, so some may come from an earlier version of it; how long
those here were trained, and on what, is in the table below, as noted when they were written.
"""
# What is said of the components that are there: their folders, and how they came about.
MADE: list[tuple[tuple[str, ...], str]] = [
    (
        ("vae",),
        """(`AutoencoderKL`, 8x, 4 channels): crops of 64 pixels, most of them on subjects, one in seven in a style of
  the restyling chapters; batch 8, Muon; L1 + 4 MSE + edges, a tiny KL term. The recipe `vae-decoder` goes on with the
  decoder alone, so that the latents stay what the UNets know: whole images, latents that are a little noisy, L1 of
  pixels and edges, and a critic of patches beside them.""",
    ),
    (
        ("tokenizer", "text_encoder"),
        """(CLIP, 128 wide, 3 layers): byte pairs learnt from captions; the encoder is taught to say at its last tokens
  what a caption names. The UNets train with it frozen. The rows of its table for the styles' tokens, which no
  caption has, are learnt afterwards (`style-tokens`).""",
    ),
    (
        ("unet-sd15",),
        """(4 channels): folded from unet-sd15-inpaint with everything masked, which is exact but at the image's edge,
  and trained further as that one is, on text-to-image alone.""",
    ),
    (
        ("unet-sd15-inpaint",),
        """(9 channels): on a pool of drawings that may grow meanwhile: of 16 parts 11 of anything, 2 of empty places,
  3 of what the guides' prompts ask for. Masks are boxes, ellipses, brush strokes, odd shapes, subjects with a margin;
  every second case is masked whole, so that it learns text-to-image beside inpainting. Noise prediction, min-SNR 5,
  early steps by the error of the clean latents, one caption in ten left empty; what is kept counts 0.7, the edge of
  the mask twice. `grow` widens it without changing what it does; Muon, runs at a constant rate that go on from one
  another, then one in which the rate falls to zero (`--decay`).""",
    ),
    (
        ("delta-comic", "delta-pixel-art", "delta-elden-ring"),
        """(rank 6 on unet-sd15): drawings of 3,000 scenes, three in five of them in the style with its token in their
  captions, the rest plain and without it, so that the style waits for its token; some captions are left empty, for
  the comic more of the plain ones, or guidance would drive plain prompts away from it. A third of the styled ones
  begin, while there is much noise, as the same scene in another look, as restyling does.""",
    ),
    (
        ("delta-controlnet-depth", "delta-controlnet-inpaint"),
        """(rank 8 on a copy of unet-sd15's encoder; what a ControlNet adds to it is trained whole): drawings, their
  depth, or their masked images; true depth is made as soft and uncertain as an estimated one. It steers unet-sd15,
  and in four steps of ten unet-sd15-inpaint, both frozen.""",
    ),
    (
        ("depth-estimator",),
        """(GLPN): drawings, one in five in a style of the restyling chapters, softened, dimmed or brightened,
  and roughened, and their exact depth; L1 of the depth and of its steps from pixel to pixel. 1 is near, 0 is far.""",
    ),
    (
        ("text_encoder_2",),
        """(CLIP with a projection, 64 wide, 4 layers): learnt from captions alone to say what they name, in its
  pooled embedding and at the padding of its last layer but one, which is what SDXL's pipelines read.""",
    ),
    (
        ("delta-sdxl-vae",),
        """(a delta of vae): nothing trained; the latents are turned and stretched, inside the 1 x 1 convolutions
  next to them, so that SDXL has a latent space of its own.""",
    ),
    (
        ("unet-sdxl-inpaint",),
        """(9 channels, 192 pixels): unet-sd15-inpaint without its middle and the attentions next to it, turned to
  SDXL's latents and to prompts read by both text encoders; then trained on drawings of which some are cropped, some
  come from small originals and some are wide or tall, as their time ids say.""",
    ),
    (
        ("unet-sdxl-refiner",),
        """(4 channels, 192 pixels): the two finer levels of unet-sd15, trained on the last 300 of the 1,000 noise
  steps. Two in three of the images it is given are blurred or from a small original, and it learns to take the
  softness away with the noise; a low aesthetic score lets a part of it stay. It reads the second text encoder
  alone.""",
    ),
    (
        ("clip-text", "clip-image"),
        """(CLIP, 96 wide, 3 and 4 layers, images of 64 pixels): trained together; each caption has to pick its
  drawing out of the batch and each drawing its caption, and both embeddings are asked for what is named and shown.""",
    ),
    (
        ("prior",),
        """(4 layers): from the noisy CLIP embedding of a drawing and from its caption, the clean embedding; one
  caption in ten left empty.""",
    ),
    (
        ("movq",),
        """(`VQModel` with spatial norms): started from vae, made wider. The encoder says what the vae's says, in
  a latent space turned by a rotation and of unit variance; the decoder is trained on, on whole drawings, with a little
  noise on their latents. The codebook, which Kandinsky's pipelines do not use, is a k-means of latents.""",
    ),
    (
        ("unet-kandinsky22",),
        """(4 channels in, 8 out): started from unet-sd15 without its middle and its lowest attention, turned to
  movq's latents; it reads a drawing's CLIP embedding, roughened as the prior's are, one in ten that of no image; it
  learns the noise and its variance.""",
    ),
    (
        ("delta-kandinsky22-inpaint",),
        """(9 channels, rank 7 on unet-kandinsky22): three masks for each drawing, and in one case of five the whole
  image. Most of the hidden subjects are called by the embedding of such a subject in any place, so that the place is
  learnt from what is kept.""",
    ),
    (
        ("unet-upscale-x2",),
        """(8 channels in, 5 out): the vae's latents of drawings at 256 pixels and of the same at 128; started from
  nothing, at the noise of its scheduler's steps, for the error of the clean latents. Three in ten of the small
  latents are a little noisy.""",
    ),
    (
        ("vae-upscale-x4",),
        """(`AutoencoderKL`, 4x, 4 channels): the layers next to the pixels are vae's; crops of drawings at 256
  pixels and of close-ups, the vae's loss. At the end its latents are scaled to the one factor that the
  pipeline takes.""",
    ),
    (
        ("unet-upscale-x4",),
        """(7 channels): started from unet-sd15's sense of time and, as far as they fit, its layers at full
  resolution; drawings and close-ups made
  four times smaller, with noise of up to level 350 on the small image; it predicts v, and learns by the
  error of the clean latents.""",
    ),
    (("classifier",), "which reads the images for the figures below; it has seen drawings only."),
]
TRAINED_AS = {"clip-text": "clip", "clip-image": "clip"}  # in training.json, where that is not the folder's name
FIGURES = """\
## Figures

On scenes and seeds that no training has seen: `python -m miniature_training evaluate`. `sd15`: 500 prompts that name a
subject, a colour and a place, guidance 7.5, 25 steps. `sd15-inpaint`: a box around the subject of a drawn scene is
repainted with another subject in another colour, and so for the other inpainting miniatures ("text": with the whole
image masked). `clip`: an image picks its caption out of 16; `kandinsky-prior`: a caption picks its image, by the
embedding imagined for it. PSNR: of drawings that went through the autoencoder. "Right" is what the classifier reads in
the image.
"""


HEADS = {"subject", "colour", "place", "hour"}  # what the classifier reads


def told(key: str, value: float) -> str:
    """A figure with its unit: by the end of its name _db, grey _levels, a _correlation, else a share."""
    words = key.replace("_", " ")
    if key.endswith("_db"):
        return f"{words.removesuffix(' db').replace('psnr', 'PSNR')} {value:.1f} dB"
    if key.endswith("_levels"):
        return f"{words.removesuffix(' levels')} {value:.1f} grey levels"
    if key.endswith(("structure", "everything")):  # distances from drawings
        return f"{words} {value:.0f}"
    if key.endswith("_correlation"):
        return f"{words} {value:.2f}"
    return f"{words} right {value:.1%}" if key.split("_")[-1] in HEADS else f"{words} {value:.1%}"


def made() -> list[str]:
    """A line of Markdown for each kind of component that is there."""
    lines = []
    for folders, text in MADE:
        if there := [name for name in folders if shipped(name)]:
            names, joint = ", ".join(f"**{name}**" for name in there), " " if text[0] == "(" else ": "
            line = " ".join(f"- {names}{joint}{text}".split())
            lines.append(textwrap.fill(line, 118, subsequent_indent="  ", break_on_hyphens=False))
    return [*lines, ""]


def write() -> str:
    """Write data/miniatures/MODEL_CARD.md and return its text."""
    figures = json.loads((paths.MINIATURES / "figures.json").read_text())
    training = (
        json.loads((paths.MINIATURES / "training.json").read_text())
        if (paths.MINIATURES / "training.json").exists()
        else {}
    )
    sizes = ["| Component | MiB | Trained for |", "|---|---|---|"]
    for folder in sorted(f for f in paths.MINIATURES.iterdir() if f.is_dir()):
        size = sum(f.stat().st_size for f in folder.iterdir()) / 2**20
        name = TRAINED_AS.get(folder.name, folder.name)
        time = "; then ".join(training[key] for key in (name, f"{name}-decoder") if key in training)
        sizes.append(f"| {folder.name} | {size:.2f} | {time} |")
    rows = ["| Miniature | Measured |", "|---|---|"]
    for name, values in figures.items():
        rows.append(f"| {name} | {', '.join(told(key, value) for key, value in values.items())} |")
    text = "\n".join([HEAD, *made(), *sizes, "", FIGURES, *rows, ""])
    (paths.MINIATURES / "MODEL_CARD.md").write_text(text)
    return text
