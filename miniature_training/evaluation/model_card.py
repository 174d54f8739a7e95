"""The model card of the miniatures, written from their files and their measured figures."""

from __future__ import annotations

import json
import textwrap

from helpers.common import paths
from miniature_training.models.store import shipped

HEAD = """\
# Model card: the miniatures

Small diffusers checkpoints that this project trained itself, on images drawn by a program
(`miniature_training/world`). They exist for teaching. They have the classes and arguments of the real checkpoints,
at a size that a laptop's CPU can run. Licence: Apache-2.0, for weights and drawings alike. Nobody else's images,
weights or text went in.

This page is written by `python -m miniature_training card`, from the weights' files and `figures.json`.

## What they know

One drawn world: ten subjects (castle, house, cat, boat, tree, rock, astronaut, waterfall, bench, lighthouse) in ten
colours, seven places, four hours, four palettes, two attributes (glowing eyes, elven), and five kinds of flawed
images (blurred, blocky, noisy, washed out, deformed). Words outside this world mean nothing to them. Their images
have 128 x 128 pixels, SDXL's 192 x 192.

## The recipes

`python -m miniature_training train NAME --minutes M [--resume]`, seeded, on a CPU or a CUDA GPU; on one GPU
`python -m miniature_training family bases --minutes 5`, then `family rest --minutes 8`, trains all that paints, several
at a time. This is what the recipes do today. Weights stay until their recipe is run again, so some may come from an
earlier version of it. The table below says how long those here were trained and on what, as noted when they were
written.
"""
# What is said of the components that are there: their folders, and how they came about.
MADE: list[tuple[tuple[str, ...], str]] = [
    (
        ("vae",),
        """(`AutoencoderKL`, 8x, 4 channels): trained on crops of 64 pixels, most of them on subjects, one in
  seven in a style of the restyling chapters. Batch 8, Muon; L1 + 4 MSE + edges, and a tiny KL term. The
  recipe `vae-decoder` then trains the decoder alone, so that the latents stay what the UNets know. It uses
  whole images, latents as the UNets give them back from some noise, L1 of pixels and edges, and a patch
  discriminator.""",
    ),
    (
        ("tokenizer", "text_encoder"),
        """(CLIP, 128 wide, 3 layers): byte pairs learnt from captions. The encoder is trained to predict, at its
  last tokens, what a caption names. It stays frozen while the UNets train. The rows of its table for the
  style tokens, which no caption contains, are learnt afterwards (`style-tokens`).""",
    ),
    (
        ("unet-sd15",),
        """(4 channels): folded from unet-sd15-inpaint with everything masked, which is exact except at the
  image's edge. Then trained further in the same way, on text-to-image alone.""",
    ),
    (
        ("unet-sd15-inpaint",),
        """(9 channels): trained on a pool of drawings that may grow during training. Of 16 parts, 11 show
  anything, 2 empty places, and 3 what the guides' prompts ask for. Masks are boxes, ellipses, brush strokes,
  odd shapes, and subjects with a margin. Every second case is masked completely, so that it learns
  text-to-image as well. Noise prediction, min-SNR 5, with the error of the clean latents for early steps; one
  caption in ten is left empty. What is kept counts 0.7, the edge of the mask twice. `grow` widens it without
  changing what it does. Muon, in runs at a constant learning rate that continue one another, then one in
  which the rate falls to zero (`--decay`).""",
    ),
    (
        ("delta-comic", "delta-pixel-art", "delta-elden-ring"),
        """(rank 6 on unet-sd15): trained on drawings of 9,000 scenes. Three in five are in the style, with its
  token in their captions. The rest are plain and without it, so that the style waits for its token. Some
  captions are left empty; for the comic, more of the plain ones are, because guidance would otherwise drive
  plain prompts away from it. A third of the styled ones start, while there is much noise, as the same scene
  in another look, as in restyling.""",
    ),
    (
        ("delta-controlnet-depth", "delta-controlnet-inpaint"),
        """(rank 8 on a copy of unet-sd15's encoder; the layers that a ControlNet adds are trained in full):
  trained on drawings with their depth or their masked images. True depth is made as soft and uncertain as an
  estimate. It steers unet-sd15, and in four steps of ten unet-sd15-inpaint, both frozen.""",
    ),
    (
        ("lcm",),
        """(LoRA of rank 8, for unet-sd15 and unet-sd15-inpaint at once): distribution matching. The student makes
  images in one to six steps of its own; an imitator, a copy of the base, learns to denoise them; the student
  moves from what the imitator sees in them, with noise of any strength, to what the base sees at guidance 6 to
  8. A patch discriminator of latents has a small say.""",
    ),
    (
        ("depth-estimator",),
        """(GLPN): trained on drawings and their exact depth. One drawing in five is in a style of the restyling
  chapters. All are softened, dimmed or brightened, and roughened. L1 of the depth and of its steps from pixel
  to pixel. 1 is near, 0 is far.""",
    ),
    (
        ("text_encoder_2",),
        """(CLIP with a projection, 64 wide, 4 layers): trained on captions alone to predict what they name, in
  its pooled embedding and at the padding of its second-to-last layer, which is what SDXL's pipelines read.""",
    ),
    (
        ("delta-sdxl-vae",),
        """(a delta of vae): nothing is trained. The latents are turned and stretched inside the 1 x 1
  convolutions next to them, so that SDXL has a latent space of its own.""",
    ),
    (
        ("unet-sdxl-inpaint",),
        """(9 channels, 192 pixels): unet-sd15-inpaint without its middle block and the attentions next to it,
  converted to SDXL's latents and to prompts read by both text encoders. Then trained on drawings, some of
  them cropped, some from small originals and some wide or tall, as their time ids say; widened by `grow`, and
  trained on as unet-sd15-inpaint is, the errors of early steps counting more.""",
    ),
    (
        ("unet-sdxl-refiner",),
        """(4 channels, 192 pixels): the two finer levels of unet-sd15, trained on the last 300 of the 1,000
  noise steps. Two in three of the images it is given are blurred or from a small original, and it learns to
  remove the softness with the noise. A low aesthetic score lets a part of it stay. It reads the second text
  encoder alone.""",
    ),
    (
        ("clip-text", "clip-image"),
        """(CLIP, 96 wide, 3 and 4 layers, images of 64 pixels): trained together. Each caption has to pick its
  drawing out of the batch, and each drawing its caption. Both embeddings also have to predict what is named
  and shown.""",
    ),
    (
        ("prior",),
        """(4 layers): predicts the clean CLIP embedding of a drawing from the noisy one and the caption. One
  caption in ten is left empty.""",
    ),
    (
        ("movq",),
        """(`VQModel` with spatial norms): started from vae and made wider. The encoder gives the vae's latents
  in a latent space turned by a rotation and of unit variance. The decoder is trained further on whole
  drawings, with a little noise on their latents, and then by `movq-decoder` as the VAE's is. The codebook,
  which Kandinsky's pipelines do not use, is a k-means of latents.""",
    ),
    (
        ("unet-kandinsky22",),
        """(4 channels in, 8 out): started from unet-sd15 without its middle block and its lowest attention,
  converted to movq's latents. It reads, of every second drawing, the embedding that the prior makes of its
  caption, of the others their own CLIP embedding, roughened; one in ten is that of no image. It learns the
  noise and its variance. Then widened and trained on as SDXL's.""",
    ),
    (
        ("delta-kandinsky22-inpaint",),
        """(9 channels, rank 7 on unet-kandinsky22): three masks for each drawing, and in one case of five the
  whole image is masked. Most of the hidden subjects are asked for by the embedding of such a subject in any
  place, so that the place is learnt from what is kept.""",
    ),
    (
        ("unet-upscale-x2",),
        """(8 channels in, 5 out): trained from scratch on the vae's latents of drawings at 256 pixels and of the
  same drawings at 128, at the noise levels of its scheduler's steps, with the error of the clean latents.
  Three in ten of the small latents are slightly noisy.""",
    ),
    (
        ("vae-upscale-x4",),
        """(`AutoencoderKL`, 4x, 4 channels): the layers next to the pixels are vae's. Trained on crops of
  drawings at 256 pixels and of close-ups, with the vae's loss. At the end its latents are scaled to the one
  factor that the pipeline takes.""",
    ),
    (
        ("unet-upscale-x4",),
        """(7 channels): started from unet-sd15's time embedding and, as far as they fit, its layers at full
  resolution. Trained on drawings and close-ups made four times smaller, with noise of up to level 350 on the
  small image. It predicts v, and learns from the error of the clean latents.""",
    ),
    (
        ("classifier",),
        """reads the images for the figures below. Trained on drawings, on the same drawings smeared, cut, doubled
  or haloed, and on the guesses of an unsure UNet, so that it doubts what it cannot read. Its calibration error is
  measured on held-out ones of each kind.""",
    ),
]
TRAINED_AS = {"clip-text": "clip", "clip-image": "clip"}  # in training.json, where that is not the folder's name
EARLIER = "of_earlier_weights"  # set by hand in figures.json when weights change; to evaluate takes it away
FIGURES = """\
## Figures

Measured on scenes and seeds that no training has seen, by `python -m miniature_training evaluate`.

- `sd15`: 500 prompts that name a subject, a colour and a place; guidance 7.5, 25 steps.
- `sd15-inpaint` and the other inpainting miniatures: a box around the subject of a drawn scene is repainted with
  another subject in another colour ("text": with the whole image masked).
- `clip`: an image picks its caption out of 16. `kandinsky-prior`: a caption picks its image, by the embedding predicted
  for it.
- `lcm`: 120 prompts in four steps without guidance; "guided": in 25 steps at guidance 7.5. `structure`: how far fine
  shapes are from drawings; other drawings are at 8 to 26.
- PSNR: of drawings that went through the autoencoder.
- †: of the weights before the last training, not measured again yet.

"Right" is what the classifier reads in the image.
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
        mark = " †" if values.pop(EARLIER, 0) else ""
        rows.append(f"| {name}{mark} | {', '.join(told(key, value) for key, value in values.items())} |")
    text = "\n".join([HEAD, *made(), *sizes, "", FIGURES, *rows, ""])
    (paths.MINIATURES / "MODEL_CARD.md").write_text(text)
    return text
