"""The miniatures' prompts: a CLIP byte-pair vocabulary, and a text encoder taught what captions name."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from miniature_training.models.loop import Training, device
from miniature_training.models.store import load_component, save_component
from miniature_training.world.captions import caption
from miniature_training.world.places import PLACES
from miniature_training.world.scenes import DEGRADATIONS, PALETTES, Scene, sample
from miniature_training.world.skies import HOURS
from miniature_training.world.subjects import COLOURS, SUBJECTS

START, END, UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<|unknown|>"
VOCABULARY, WIDTH, LAYERS, LENGTH = 1024, 128, 3, 77
# words of later chapters and of the diffusers guides that no caption of the plain world uses
EXTRA = """charliebo artstyle, pixelartstyle, elden ring style, comic style, pixel art
elven castle inspired by lord of the rings, magical, epic, bad anatomy, deformed, ugly, disfigured, bad architecture
unstable, poor details, blurry, high resolution, sitting on a park bench, astronaut in a jungle, cold color palette
muted colors, realistic, photorealistic, soft light, cinematic, sharp focus, portrait, landscape
the of and with without a an is are"""

HEADS: dict[str, tuple[str, ...]] = {
    "subject": ("nothing", *SUBJECTS),
    "colour": ("unnamed", *COLOURS),
    "place": ("unnamed", *PLACES),
    "hour": ("unnamed", *HOURS),
    "palette": PALETTES,
    "degraded": ("no", *DEGRADATIONS),
    "attribute": ("none", "glowing eyes", "elven"),
    "bench": ("no", "yes"),
    "close": ("no", "yes"),
}


def train_tokenizer(count: int = 20_000) -> CLIPTokenizer:
    """A CLIP tokenizer whose merges were learnt from captions; unknown words fall apart into letters."""
    corpus = [caption(sample(seed), random.Random(seed)) for seed in range(count)] + EXTRA.splitlines() * 400
    like = CLIPTokenizer(vocab={START: 0, END: 1}, merges=[], unk_token=END).backend_tokenizer
    tokenizer = Tokenizer(BPE(end_of_word_suffix="</w>", unk_token=END))
    tokenizer.normalizer, tokenizer.pre_tokenizer = like.normalizer, like.pre_tokenizer
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"()[]+-*/&%#_@"]
    trainer = BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=letters, end_of_word_suffix="</w>", min_frequency=2, show_progress=False
    )  # fmt: skip
    corpus += [" ".join(letters)] * 3
    tokenizer.train_from_iterator(corpus, trainer)
    import json

    model = json.loads(tokenizer.to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].get)[: VOCABULARY - 2]
    words += [letter + "</w>" for letter in letters if letter + "</w>" not in words]
    words[words.index("0")] = UNKNOWN  # "0" within a word, which no text has: every digit stands alone
    vocab = {word: i for i, word in enumerate([*words, START, END])}
    merges = [tuple(m) for m in model["merges"] if "".join(m) in vocab]
    result = CLIPTokenizer(
        vocab=vocab,
        merges=merges,
        unk_token=UNKNOWN,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=LENGTH,
    )
    save_component("tokenizer", result)
    return result


def build(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH,
            num_hidden_layers=LAYERS, num_attention_heads=4,
            max_position_embeddings=LENGTH, projection_dim=WIDTH, hidden_act="quick_gelu", attention_dropout=0.0,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids (B, 77), padded as the pipelines do."""
    return tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids


def said(scene: Scene, text: str) -> dict[str, int]:
    """What this wording of the scene names, as the index of each head; what it leaves out is "unnamed"."""
    from miniature_training.world.captions import HOUR_WORDS, PLACE_NAMES, PLACE_WORDS

    place = any(w in text for w in (*PLACE_WORDS[scene.place], *PLACE_NAMES[scene.place]))
    hour = any(w in text for w in HOUR_WORDS[scene.hour])
    values = {
        "subject": scene.subject or "nothing",
        "colour": scene.colour if scene.subject and scene.colour_named else "unnamed",
        "place": scene.place if place else "unnamed",
        "hour": scene.hour if hour else "unnamed",
        "palette": scene.palette
        if scene.palette == "plain" or any(w in text for w in ("palette", "colors"))
        else "plain",
        "degraded": scene.degraded or "no",
        "attribute": scene.attribute or "none",
        "bench": "yes" if scene.on_bench else "no",
        "close": "yes" if scene.close else "no",
    }
    return {head: HEADS[head].index(value) for head, value in values.items()}


def train(*, minutes: float, steps: int | None = None, resume: bool = False) -> None:
    """Teach the text encoder to say, at its last tokens, what a caption names: a warm start for every UNet."""
    tokenizer = train_tokenizer()
    encoder = build(tokenizer)
    heads = nn.ModuleDict({head: nn.Linear(WIDTH, len(values)) for head, values in HEADS.items()})
    training = Training("text_encoder", {"encoder": encoder, "heads": heads}, lr=1e-3, ema_decay=0.995)
    if resume:
        training.resume()
    encoder.train()

    def loss(generator: torch.Generator) -> torch.Tensor:
        seeds = torch.randint(0, 2**30 - 1, (64,), generator=generator).tolist()
        scenes = [sample(s % 900_000_000) for s in seeds]
        texts = [caption(s, random.Random(seed)) for s, seed in zip(scenes, seeds, strict=False)]
        truth = [said(s, t) for s, t in zip(scenes, texts, strict=False)]
        out = encoder(tokens(tokenizer, texts).to(device()))
        spots = torch.stack([out.pooler_output, out.last_hidden_state[:, -1], out.last_hidden_state[:, 45]])
        total = 0.0
        for head, layer in heads.items():
            target = torch.tensor([t[head] for t in truth], device=device())
            total = total + F.cross_entropy(layer(spots).flatten(0, 1), target.repeat(3))
        return total / len(heads)

    training.run(loss, minutes=minutes, steps=steps)
    save_component("text_encoder", training.average["encoder"])
    print(f"what held-out captions name is read right: {accuracy(training.average, tokenizer):.1%}")


@torch.no_grad()
def accuracy(modules: dict[str, nn.Module], tokenizer: CLIPTokenizer, count: int = 400) -> float:
    from miniature_training.world.scenes import HELD_OUT

    scenes = [sample(HELD_OUT + i) for i in range(count)]
    texts = [caption(s, random.Random(i)) for i, s in enumerate(scenes)]
    pooled = modules["encoder"](tokens(tokenizer, texts).to(device())).pooler_output
    hits = 0
    for head, layer in modules["heads"].items():
        guess = layer(pooled).argmax(1).tolist()
        hits += sum(g == said(s, t)[head] for g, s, t in zip(guess, scenes, texts, strict=False))
    return hits / count / len(HEADS)


def load() -> tuple[CLIPTokenizer, CLIPTextModel]:
    return load_component("tokenizer", CLIPTokenizer), load_component("text_encoder", CLIPTextModel)
