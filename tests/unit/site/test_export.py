"""The exported models compute what PyTorch computes, and their weights travel as they are stored."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from docs.site import export
from helpers import CATALOG, load
from helpers.catalog import eight_bits
from helpers.pipelines import runtimes

onnx = pytest.importorskip("onnx", reason="the extra [site] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [runtime] is not installed")


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    export.export(folder)
    return folder


def session(packed: Path, options=None):
    data = gzip.decompress(packed.read_bytes())
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def loaded(packed: Path):
    """The graph as ONNX Runtime runs it: what is the same in every call has been computed."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(packed.with_suffix(".loaded"))
    options.log_severity_level = 3  # it warns that such a file is for one machine
    session(packed, options)
    return onnx.load(packed.with_suffix(".loaded")).graph


@torch.no_grad()
def difference(module, inputs: dict, packed: Path) -> float:
    """The largest between PyTorch and the file, as a share of the largest value."""
    expected = module(*inputs.values()).numpy()
    found = session(packed).run(None, {name: value.numpy() for name, value in inputs.items()})[0]
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_every_model_computes_what_pytorch_computes(exported) -> None:
    generator = torch.Generator().manual_seed(4)
    told = json.loads((exported / "models.json").read_text(encoding="utf-8"))["files"]
    pipe = load(export.INPAINT)
    found = {}
    for name, (module, inputs) in export.modules(pipe).items():
        real = {
            key: torch.randint(0, pipe.tokenizer.vocab_size, value.shape, generator=generator)
            if value.dtype == torch.int64 else torch.randn(value.shape, generator=generator)
            for key, value in inputs.items()
        }  # fmt: skip
        found[name] = difference(module.eval(), real, exported / told[name]["file"])
    for name in (export.INPAINT, export.PLAIN):
        pipe = load(name)
        for batch in (1, 2):
            inputs = {
                key: torch.randn(batch if len(value.shape) > 1 else 1, *value.shape[1:], generator=generator)
                for key, value in export.unet_inputs(pipe).items()
            }
            inputs["timestep"] = torch.tensor([501.0])
            unet = lambda sample, time, prompt, pipe=pipe: pipe.unet(sample, time, prompt).sample  # noqa: E731
            found[f"unet-{name} {batch}"] = difference(unet, inputs, exported / told[f"unet-{name}"]["file"])
    assert {name: value for name, value in found.items() if value > 1e-5} == {}


def test_what_is_said_of_a_file_is_true(exported) -> None:
    told = json.loads((exported / "models.json").read_text(encoding="utf-8"))
    for facts in told["files"].values():
        packed = (exported / facts["file"]).read_bytes()
        assert len(packed) == facts["bytes"]
        assert len(gzip.decompress(packed)) == facts["unpacked"]
    sizes = {
        export.Image.open(exported / f"{name}{kind}.png").size for name in told["images"] for kind in ("", "_mask")
    }
    assert sizes == {(CATALOG[export.INPAINT].size,) * 2}


class Layers(torch.nn.Module):
    """A matrix, which the exporter transposes, and a convolution."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.linear, self.conv = torch.nn.Linear(64, 64), torch.nn.Conv2d(1, 64, 8)
        self.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in weights.items()})

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, 64) -> (B, 64)
        return self.conv(self.linear(x).reshape(-1, 1, 8, 8))[..., 0, 0]


def test_weights_kept_in_eight_bits_travel_in_eight_bits(tmp_path) -> None:
    rng = np.random.default_rng(0)
    shapes = {"linear.weight": (64, 64), "linear.bias": (64,), "conv.weight": (64, 1, 8, 8), "conv.bias": (64,)}
    stored = eight_bits.packed({name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()})
    module, inputs = Layers(eight_bits.unpacked(stored)).eval(), {"x": torch.randn(3, 64)}
    sizes = {}
    for kind, known in {"eight": stored, "half": {}}.items():
        draft = tmp_path / f"{kind}.onnx"
        runtimes.write_graph(module, inputs, draft, output="y")
        sizes[kind] = export.pack(draft, tmp_path, known)["unpacked"]
        assert difference(module, inputs, tmp_path / f"{kind}.onnx.gz") < 1e-6
    assert sizes["eight"] < 0.62 * sizes["half"]
    graph = onnx.load_from_string(gzip.decompress((tmp_path / "eight.onnx.gz").read_bytes())).graph
    assert sum(weight.data_type == onnx.TensorProto.INT8 for weight in graph.initializer) == 2
    steps = {kind: [node.op_type for node in loaded(tmp_path / f"{kind}.onnx.gz").node] for kind in sizes}
    assert steps["eight"] == steps["half"], "no call makes the weights again"


def test_a_weight_that_float16_does_not_hold_stays_as_it_is(tmp_path) -> None:
    module, inputs = torch.nn.Linear(64, 64), {"x": torch.randn(2, 64)}
    runtimes.write_graph(module, inputs, tmp_path / "float.onnx", output="y")
    export.pack(tmp_path / "float.onnx", tmp_path, {})
    assert difference(module, inputs, tmp_path / "float.onnx.gz") < 1e-6


def test_a_file_that_hosts_refuse_is_refused_here(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(export, "LARGEST", 100)
    with pytest.raises(ValueError, match="hosts of static pages refuse"):
        export.pack_bytes(np.random.default_rng(0).bytes(400), tmp_path / "x.gz")
