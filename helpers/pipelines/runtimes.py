"""A second runtime for CPUs: the UNet's forward in ONNX Runtime, everything else in PyTorch and diffusers.

At the miniatures' sizes PyTorch spends half of a step on dispatch. `onnx_unet` gives a UNet that shares every weight
with the one it is given and runs an exported graph of it; what the graph does not cover runs in PyTorch, and a warning
says so once. Images are within 1 of 255 of PyTorch's.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import os
import tempfile
import warnings
import weakref
from pathlib import Path
from typing import Any

from helpers.common import paths

RUNTIMES = ("torch", "onnxruntime")
_MODULES = ("onnx", "onnxruntime")

_graphs: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # UNet -> its graph


def check_runtime(runtime: str | None) -> str:
    """Return the runtime's name, "torch" for None.

    Raises ValueError for an unknown name, and ModuleNotFoundError, with the command that installs it, for one that is
    not installed.
    """
    if runtime is not None and runtime not in RUNTIMES:
        raise ValueError(f"runtime={runtime!r}: expected {' or '.join(map(repr, RUNTIMES))}.")
    if runtime in (None, "torch"):
        return "torch"
    if lacking := [module for module in _MODULES if importlib.util.find_spec(module) is None]:
        raise ModuleNotFoundError(
            f"runtime={runtime!r} needs {' and '.join(lacking)}. Run pip install -c constraints.txt -e '.[runtime]' in "
            "the course's folder and restart the kernel; or leave runtime out: PyTorch makes the same image, slower."
        )
    return runtime


def runtime_of(unet: Any) -> str:
    """The runtime of a UNet's forward with its version, such as "onnxruntime 1.32.0"; "torch" where PyTorch runs it."""
    graph = vars(unet).get("_graph")
    return "torch" if graph is None or graph._changed() else graph.name


def onnx_unet(unet: Any) -> Any:
    """Return a UNet on the weights of `unet` that runs in ONNX Runtime, and in PyTorch what its graph does not cover.

    The graph is exported at the first call (seconds for a miniature) and kept in the cache folder by a hash of the
    weights. LoRA, other attention processors, hooks, FreeU, changed weights, gradients and ControlNet residuals run in
    PyTorch. ValueError for a UNet that is not float32 on a CPU.
    """
    import torch

    if unet.device.type != "cpu" or unet.dtype != torch.float32:
        raise ValueError(
            f"runtime='onnxruntime' runs float32 on a CPU; this UNet is {str(unet.dtype).removeprefix('torch.')} on "
            f'{unet.device}. Leave runtime out, or pass device="cpu", dtype="float32".'
        )
    if unet not in _graphs:
        _graphs[unet] = _Graph(unet)
    made = copy.copy(unet)  # another module object around the same layers and weights
    made._graph = _graphs[unet]
    made.forward = made._graph.forward_of(made)
    return made


def export(unet: Any, inputs: dict[str, Any], file: Path) -> None:
    """Write a UNet as one ONNX file for inputs such as these, of any batch, height, width and number of tokens.

    inputs: sample (B, C, h, w), timestep (1,), encoder_hidden_states (B, tokens, width) and what added_cond_kwargs has.
    """
    axes = {name: {0: "batch"} for name in (*inputs, "noise") if name != "timestep"}
    for name in ("sample", "noise"):
        axes[name] |= {2: "height", 3: "width"}
    if "encoder_hidden_states" in axes:
        axes["encoder_hidden_states"][1] = "tokens"
    write_graph(_positional(unet, list(inputs)), inputs, file, output="noise", axes=axes)


def write_graph(
    module: Any, inputs: dict[str, Any], file: Path, *, output: str, axes: dict[str, dict[int, str]] | None = None
) -> None:
    """Write a module that takes these tensors, in this order, and returns one tensor as one ONNX file.

    axes: the names of the axes that may have any length, by input or output. The file appears only when it is whole. It
    is traced: the exporter that analyses the program takes forty times as long, for a graph of the same speed.
    """
    import torch

    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing says what it takes for constant, and that it is the older exporter
        draft = Path(folder) / file.name
        torch.onnx.export(
            module, tuple(inputs.values()), str(draft), dynamo=False, opset_version=18,
            input_names=list(inputs), output_names=[output], dynamic_axes=axes,
        )  # fmt: skip
        os.replace(draft, file)


class _Graph:
    """The exported graph of a UNet, and what has to be as it was for the graph to be right."""

    def __init__(self, unet: Any) -> None:
        import onnxruntime

        self.name = f"onnxruntime {onnxruntime.__version__}"
        self.weights = [(weight, weight._version) for weight in unet.parameters()]
        self.modules = [(m._modules, name, child) for m in unet.modules() for name, child in m._modules.items()]
        self.processors = [(m, m.processor) for m in unet.modules() if hasattr(m, "processor")]
        self.up_blocks = list(getattr(unet, "up_blocks", ()))
        self.multiple = 2 ** (len(unet.config["block_out_channels"]) - 1)  # of latents: others are padded on the way
        self.sessions: dict[tuple[str, ...], Any] = {}  # by the names of the inputs
        self.warned: set[str] = set()

    def forward_of(self, unet: Any) -> Any:
        """The forward of a UNet object that has this graph's weights."""
        kind = type(unet)

        def forward(sample, timestep, encoder_hidden_states=None, *more, return_dict=True, **options):
            given = {"encoder_hidden_states": encoder_hidden_states} | (options.get("added_cond_kwargs") or {})
            used = [name for name, value in options.items() if value is not None and name != "added_cond_kwargs"]
            if reason := self._changed() or self._uncovered(sample, given, [*map(str, more), *used]):
                if reason not in self.warned:
                    self.warned.add(reason)
                    warnings.warn(f"The UNet runs in PyTorch, not in {self.name}: {reason}.", stacklevel=2)
                return kind.forward(
                    unet, sample, timestep, encoder_hidden_states, *more, return_dict=return_dict, **options
                )
            return self._run(unet, sample, timestep, given, return_dict)

        return forward

    def _changed(self) -> str:
        """Why the UNet is not what was exported any more, or ""."""
        if any(place.get(name) is not child for place, name, child in self.modules):
            return "its layers were replaced, as LoRA does"
        if any(module.processor is not processor for module, processor in self.processors):
            return "its attention processors were replaced"
        if any(weight._version != version for weight, version in self.weights):
            return "its weights were changed"
        if any(child is not None and child._forward_hooks for _, _, child in self.modules):
            return "a hook listens to one of its layers"
        return "FreeU is on" if any(getattr(block, "s1", None) is not None for block in self.up_blocks) else ""

    def _uncovered(self, sample: Any, given: dict[str, Any], more: list[str]) -> str:
        """Why this call is none that the graph can run, or ""."""
        import torch

        if more:
            return f"this call has {', '.join(more)}"
        if any(side % self.multiple for side in sample.shape[-2:]):
            return f"height and width of the latents are not multiples of {self.multiple}"
        if any(value is not None and not torch.is_tensor(value) for value in given.values()):
            return "it was given lists where the graph takes tensors"
        return "a gradient is wanted" if torch.is_grad_enabled() and sample.requires_grad else ""

    def _run(self, unet: Any, sample: Any, timestep: Any, given: dict[str, Any], return_dict: bool) -> Any:
        import torch
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

        step = torch.as_tensor(timestep, dtype=torch.float32).reshape(-1)[:1]
        inputs = {"sample": sample, "timestep": step} | {k: v.float() for k, v in given.items() if v is not None}
        names = tuple(inputs)
        if names not in self.sessions:
            self.sessions[names] = self._session(unet, inputs)
        feed = {name: value.contiguous().numpy(force=True) for name, value in inputs.items()}
        noise = torch.from_numpy(self.sessions[names].run(None, feed)[0])
        return UNet2DConditionOutput(sample=noise) if return_dict else (noise,)

    def _session(self, unet: Any, inputs: dict[str, Any]) -> Any:
        file = paths.cache_folder() / "onnx" / f"unet-{_digest(unet, list(inputs))}.onnx"
        if file.exists():
            try:
                return _open(file)
            except Exception:  # something damaged the file: it is made again
                file.unlink()
        export(unet, inputs, file)
        return _open(file)


def _positional(unet: Any, names: list[str]) -> Any:
    """The UNet as a module that takes its inputs one after the other, and returns the noise alone."""
    import torch

    kind = type(unet)

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unet = unet

        def forward(self, *inputs):
            given = dict(zip(names, inputs, strict=True))
            sample, step, prompt = given.pop("sample"), given.pop("timestep"), given.pop("encoder_hidden_states", None)
            return kind.forward(unet, sample, step, prompt, added_cond_kwargs=given or None, return_dict=False)[0]

    return Positional().eval()


def _digest(unet: Any, names: list[str]) -> str:
    """Sixteen hexadecimal digits of the weights, the configuration, the inputs and the exporter."""
    import torch

    told = f"{torch.__version__} {names} {sorted(unet.config.items(), key=str)}"
    digest = hashlib.sha256(told.encode())
    for weight in unet.parameters():
        digest.update(weight.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _open(file: Path) -> Any:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
