"""What the page that paints needs of the course's miniatures: models as gzipped ONNX files, images, and what they are.

    python -m docs.site.export FOLDER

Sizes, widths and constants come from the checkpoints. Weights travel as they are stored, in eight or sixteen bits, and
the graph turns them into float32 when it is loaded: half the bytes or less, and the same numbers.
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file

from helpers import CATALOG, load, load_image, load_mask
from helpers.catalog import eight_bits, miniatures
from helpers.common import paths
from helpers.pipelines import latent_preview, runtimes

INPAINT, PLAIN = "sd15-inpaint", "sd15"
IMAGES = ("seashore", "meadow", "castle", "road", "bench", "jungle", "lighthouse", "winter")
SMALL = 1024  # numbers; what has fewer stays in float32
LARGEST = 95 * 2**20  # bytes of a file: what free hosts of static pages take


class _Encoder(torch.nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, image: torch.Tensor) -> torch.Tensor:  # (1, 3, H, W) -> mean and log-variance, (1, 2 C, H/8, W/8)
        return self.vae.encode(image).latent_dist.parameters


class _Decoder(torch.nn.Module):
    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: torch.Tensor) -> torch.Tensor:  # (1, C, H/8, W/8) -> (1, 3, H, W)
        return self.vae.decode(latents, return_dict=False)[0]


class _Text(torch.nn.Module):
    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # (1, 77) -> (1, 77, width)
        return self.encoder(tokens, return_dict=False)[0]


class _SteadyNorm(torch.nn.Module):
    """A GroupNorm whose means are means of means.

    WebAssembly's kernel adds up the hundred thousand values of a group one after another, and its roundings alone
    change a value of an image in a thousand.
    """

    ROW = 64  # values that are averaged first; channels times pixels of a group is a multiple

    def __init__(self, norm: torch.nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, C, H, W)
        mean = lambda values: values.mean(3, keepdim=True).mean(2, keepdim=True)  # noqa: E731
        grouped = x.reshape(x.shape[0], self.norm.num_groups, -1, self.ROW)
        centred = grouped - mean(grouped)
        scaled = centred / torch.sqrt(mean(centred * centred) + self.norm.eps)
        return scaled.reshape(x.shape) * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]


def steady(module: torch.nn.Module) -> torch.nn.Module:
    """A copy of a module with the GroupNorms that WebAssembly computes well."""
    made = copy.deepcopy(module)
    for layer in list(made.modules()):
        for name, child in layer.named_children():
            if isinstance(child, torch.nn.GroupNorm):
                setattr(layer, name, _SteadyNorm(child))
    return made


def modules(pipe: Any) -> dict[str, tuple[Any, dict[str, torch.Tensor]]]:
    """The pipeline's parts but the UNet, as modules of tensors alone, with inputs of the size they are exported for."""
    size, unet = CATALOG[INPAINT].size, pipe.unet.config
    tokens = torch.zeros(1, pipe.tokenizer.model_max_length, dtype=torch.int64)
    return {
        "text_encoder": (_Text(pipe.text_encoder), {"tokens": tokens}),
        "vae_encoder": (_Encoder(pipe.vae), {"image": torch.zeros(1, 3, size, size)}),
        "vae_decoder": (_Decoder(pipe.vae), {"latents": torch.zeros(1, unet.out_channels, *2 * [unet.sample_size])}),
    }


def unet_inputs(pipe: Any) -> dict[str, torch.Tensor]:
    """A guided step of the pipeline: a batch of two."""
    unet = pipe.unet.config
    return {
        "sample": torch.zeros(2, unet.in_channels, unet.sample_size, unet.sample_size),
        "timestep": torch.ones(1),
        "encoder_hidden_states": torch.zeros(2, pipe.tokenizer.model_max_length, unet.cross_attention_dim),
    }


@torch.no_grad()
def export(folder: Path) -> dict[str, Any]:
    """Write everything into `folder` and return what models.json says; ValueError for a file that is too large."""
    pipes = {name: load(name, device="cpu", dtype="float32") for name in (INPAINT, PLAIN)}
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    with tempfile.TemporaryDirectory() as drafts:
        for name, (module, inputs) in modules(pipes[INPAINT]).items():
            draft = Path(drafts) / f"{name}.onnx"
            runtimes.write_graph(steady(module).eval(), inputs, draft, output="result")
            files[name] = pack(draft, folder, stored_weights(INPAINT))
        for name, pipe in pipes.items():
            draft = Path(drafts) / f"unet-{name}.onnx"
            runtimes.export(pipe.unet, unet_inputs(pipe), draft)
            files[draft.stem] = pack(draft, folder, stored_weights(name))
    told = {"files": files, "images": _write_images(folder), **describe(pipes[INPAINT])}
    (folder / "models.json").write_text(json.dumps(told), encoding="utf-8")
    return told


def describe(pipe: Any) -> dict[str, Any]:
    """What the page has to know of a checkpoint beside its models."""
    latent_map = latent_preview.map_of(pipe.vae)
    scheduler = pipe.scheduler.config
    return {
        "size": CATALOG[INPAINT].size,
        "channels": pipe.vae.config.latent_channels,
        "pixels_a_latent": pipe.vae_scale_factor,
        "scaling": pipe.vae.config.scaling_factor,
        "scheduler": {
            name: scheduler[name]
            for name in ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "steps_offset")
        },
        "preview": {"weights": latent_map.weights, "bias": latent_map.bias, "loudest": latent_map.loudest},
        "tokenizer": describe_tokenizer(pipe.tokenizer),
    }


def describe_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """The tokenizer's tables and the ids that begin, end and fill a prompt."""
    tables = json.loads(tokenizer.backend_tokenizer.to_str())
    model, normalizer = tables["model"], tables["normalizer"]
    return {
        "vocabulary": model["vocab"], "merges": model["merges"], "suffix": model["end_of_word_suffix"],
        "fuses": model["fuse_unk"], "normalizers": normalizer.get("normalizers", [normalizer]),
        "special": {entry["content"]: entry["id"] for entry in tables["added_tokens"]},
        "pattern": tables["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"],
        "length": tokenizer.model_max_length, "begin": tokenizer.bos_token_id, "end": tokenizer.eos_token_id,
        "pad": tokenizer.pad_token_id, "unknown": tokenizer.unk_token_id,
    }  # fmt: skip


def stored_weights(name: str) -> dict[str, np.ndarray]:
    """The checkpoint's weights as data/miniatures has them: those in eight bits as NAME.int8 and NAME.scale."""
    folders = [parts[2] for parts in miniatures.recipes()[name]["components"].values()]
    files = [file for folder in folders for file in (paths.MINIATURES / folder).glob("*.safetensors")]
    return {f"{file.parent.name}.{key}": value for file in files for key, value in load_file(file).items()}


def pack(draft: Path, folder: Path, stored: dict[str, np.ndarray]) -> dict[str, Any]:
    """Write a graph with small weights, gzipped, and return what the page has to know of the file."""
    import onnx

    model = onnx.load(draft)
    shrink(model.graph, stored)
    del model.metadata_props[:], model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    return pack_bytes(model.SerializeToString(), folder / f"{draft.name}.gz")


def pack_bytes(data: bytes, file: Path) -> dict[str, Any]:
    """Write bytes gzipped, the same file each time, and return what the page has to know of it."""
    packed = gzip.compress(data, 9, mtime=0)
    if len(packed) > LARGEST:
        raise ValueError(
            f"{file.name} has {len(packed):,} bytes, more than {LARGEST:,}: hosts of static pages refuse it."
        )
    file.write_bytes(packed)
    return {
        "file": file.name,
        "bytes": len(packed),
        "unpacked": len(data),
        "hash": hashlib.sha256(packed).hexdigest()[:16],
    }


def shrink(graph: Any, stored: dict[str, np.ndarray]) -> None:
    """Keep a graph's large weights as they are stored, in float16 or int8, and let nodes make float32 of them.

    ONNX Runtime folds these nodes when it loads the graph, so a step costs nothing more. DequantizeLinear it would keep
    and compute again at every step. A weight that float16 does not hold exactly stays as it is.
    """
    from onnx import TensorProto, helper, numpy_helper

    eight = _by_bytes(stored)
    nodes, kept = [], []
    for weight in graph.initializer:
        array = numpy_helper.to_array(weight)
        half = array.astype(np.float16) if array.dtype == np.float32 and array.size >= SMALL else None
        if half is None or not np.array_equal(half.astype(np.float32), array):
            kept.append(weight)
            continue
        name = weight.name
        if parts := eight.get(_key(half)):
            whole, scale = parts
            kept += [numpy_helper.from_array(whole, f"{name}.int8"), numpy_helper.from_array(scale, f"{name}.scale")]
            nodes += [
                helper.make_node("Cast", [f"{name}.int8"], [f"{name}.whole"], to=TensorProto.FLOAT),
                helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [f"{name}.exact"]),
                helper.make_node("Cast", [f"{name}.exact"], [f"{name}.half"], to=TensorProto.FLOAT16),
            ]
        else:
            kept.append(numpy_helper.from_array(half, f"{name}.half"))
        nodes.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    graph.initializer.clear()
    graph.initializer.extend(kept)
    graph_nodes = [*nodes, *graph.node]
    graph.ClearField("node")
    graph.node.extend(graph_nodes)


def _key(array: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()


def _by_bytes(stored: dict[str, np.ndarray]) -> dict[tuple, tuple[np.ndarray, np.ndarray]]:
    """By the float16 array that they make: eight bits and scales that broadcast with them; matrices also transposed."""
    found = {}
    for name in (key.removesuffix(".int8") for key in stored if key.endswith(".int8")):
        whole, scale = stored[f"{name}.int8"], stored[f"{name}.scale"]
        full = eight_bits.unpacked({f"{name}.int8": whole, f"{name}.scale": scale})[name]
        scale = scale.reshape(-1, *(1,) * (whole.ndim - 1))
        found[_key(full)] = (whole, scale)
        if whole.ndim == 2:
            found[_key(full.T)] = (np.ascontiguousarray(whole.T), np.ascontiguousarray(scale.T))
    return found


def _write_images(folder: Path) -> list[dict[str, str]]:
    """The course's images and masks at the miniatures' size, resampled as the pipelines do it."""
    side = 2 * [CATALOG[INPAINT].size]
    for name in IMAGES:
        load_image(name).resize(side, Image.Resampling.LANCZOS).save(folder / f"{name}.png")
        load_mask(name).resize(side, Image.Resampling.NEAREST).save(folder / f"{name}_mask.png")
    return list(IMAGES)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    shutil.rmtree(target, ignore_errors=True)
    for one, facts in export(target)["files"].items():
        print(f"{one:20} {facts['bytes']:10,} bytes on the wire, {facts['unpacked']:10,} unpacked")
