"""The model card of the miniatures, written from their files and their measured figures."""

from __future__ import annotations

import json

from .store import FOLDER

HEAD = """\
# Model card: the miniatures

Small diffusers checkpoints that this project trained itself, on pictures that a program draws
(`helpers/miniatures/world.py`). They exist to teach: the classes and arguments of the real checkpoints, at a size
that a laptop's CPU runs. Licence: Apache-2.0, weights and drawings alike; no picture, weight or text of others went in.

This page is written by `python -m helpers.miniatures card`, from the weights' files and `figures.json`.

## What they know

One drawn world: ten subjects (castle, house, cat, boat, tree, rock, astronaut, waterfall, bench, lighthouse) in ten
colours, seven places, four hours, four palettes, two attributes (glowing eyes, elven), and five ways for a picture to
be bad (blurred, blocky, noisy, washed out, deformed). Words outside this world mean nothing to them. 128 x 128 pixels.

## How each was made

`python -m helpers.miniatures train NAME --minutes M [--resume]`, seeded, on a CPU or a CUDA card.

- **vae** (`AutoencoderKL`, 8x, 4 channels): crops of 64 pixels, most of them on subjects, one in seven in a style of
  the restyling chapters; batch 8, Muon; L1 + 4 MSE + edges, a tiny KL term. **vae-decoder** goes on with the decoder
  alone, so that the latents stay what the UNets know.
- **tokenizer**, **text_encoder** (CLIP, 128 wide, 3 layers): byte pairs learnt from captions; the encoder is taught to
  say at its last tokens what a caption names. The UNets train with it frozen.
- **unet-sd15** (4 channels): 12,000 drawings, about ten wordings each; noise prediction, min-SNR 5, one caption in ten
  left empty.
- **unet-sd15-inpaint** (9 channels): started from unet-sd15, the new inputs at zero; boxes, ellipses, brush strokes,
  subjects with a margin; in four cases of ten the whole picture, so that it learns text-to-image beside it, and sd15
  starts from it again. What is repainted counts three times as much as the rest.
- **classifier**: the judge of the figures below; it has seen drawings only.
"""
FIGURES = """\
## Figures

On scenes and seeds that no training has seen: `python -m helpers.miniatures evaluate`. `sd15`: 500 prompts that name a
subject, a colour and a place, guidance 7.5, 25 steps. `sd15-inpaint`: a box around the subject of a drawn scene is
repainted with another subject in another colour. "Right" is what the classifier reads in the picture.
"""


HEADS = {"subject", "colour", "place", "hour"}  # what the classifier reads


def told(key: str, value: float) -> str:
    """A figure with its unit: by the end of its name _db, grey _levels, a _correlation, else a share."""
    words = key.replace("_", " ")
    if key.endswith("_db"):
        return f"{words.removesuffix(' db').replace('psnr', 'PSNR')} {value:.1f} dB"
    if key.endswith("_levels"):
        return f"{words.removesuffix(' levels')} {value:.1f} grey levels"
    if key.endswith("_correlation"):
        return f"{words} {value:.2f}"
    return f"{words} right {value:.1%}" if key.split("_")[-1] in HEADS else f"{words} {value:.1%}"


def write() -> str:
    """Write data/miniatures/MODEL_CARD.md and return its text."""
    figures = json.loads((FOLDER / "figures.json").read_text())
    training = json.loads((FOLDER / "training.json").read_text()) if (FOLDER / "training.json").exists() else {}
    sizes = ["| Component | MiB | Trained for |", "|---|---|---|"]
    for folder in sorted(f for f in FOLDER.iterdir() if f.is_dir()):
        size = sum(f.stat().st_size for f in folder.iterdir()) / 2**20
        time = "; then ".join(training[key] for key in (folder.name, f"{folder.name}-decoder") if key in training)
        sizes.append(f"| {folder.name} | {size:.2f} | {time} |")
    rows = ["| Miniature | Measured |", "|---|---|"]
    for name, values in figures.items():
        rows.append(f"| {name} | {', '.join(told(key, value) for key, value in values.items())} |")
    text = "\n".join([HEAD, *sizes, "", FIGURES, *rows, ""])
    (FOLDER / "MODEL_CARD.md").write_text(text)
    return text
