"""Everything a chapter of the course uses, by name; nothing heavy is imported before it is asked for."""

from __future__ import annotations

import sys
from importlib import import_module

# public name: the module that owns it
_OWNERS = {
    "CATALOG": "catalog.checkpoints",
    "edition": "catalog.editions",
    "plan_memory": "catalog.memory_plan",
    "memory_table": "catalog.memory_plan",
    "use": "pipelines.loading",
    "load": "pipelines.loading",
    "weigh": "pipelines.prompt_weighting",
    "parse_prompt": "pipelines.prompt_syntax",
    "unload": "pipelines.loading",
    "load_image": "images.reading",
    "load_mask": "images.masks",
    "show": "images.contact_sheet",
    "box_mask": "images.masks",
    "ellipse_mask": "images.masks",
    "polygon_mask": "images.masks",
    "alpha_mask": "images.masks",
    "grow": "images.masks",
    "shrink": "images.masks",
    "invert": "images.masks",
    "blur": "images.masks",
    "fit": "images.masks",
    "share": "images.masks",
    "threshold": "images.masks",
    "keep_unmasked": "images.masks",
    "change": "analysis.image_metrics",
    "seam": "analysis.image_metrics",
    "adherence": "analysis.image_metrics",
    "sharpness": "analysis.image_metrics",
    "depth_agreement": "analysis.image_metrics",
    "measure": "analysis.benchmark",
    "measure_each": "analysis.benchmark",
    "Costs": "analysis.benchmark",
    "payback": "analysis.benchmark_charts",
    "gpu_measurements": "cli.measure_gpu",
    "fill": "images.filling",
    "select": "pipelines.selection",
    "outpaint": "images.outpainting",
    "handoff": "pipelines.latent_handoff",
    "switch": "pipelines.switching",
    "Record": "generation.records",
    "chart": "analysis.charts",
    "measured": "analysis.record_metrics",
    "rescue": "generation.oom",
    "sweep": "generation.sweeps",
    "grid": "analysis.grids",
    "Compare": "widgets",
    "MaskPainter": "widgets",
    "Explorer": "widgets",
    "Steps": "widgets",
    "TokenWeights": "widgets",
    "canny_edges": "pipelines.control_images",
    "depth_map": "pipelines.control_images",
    "inpaint_condition": "pipelines.control_images",
    "check": "exercises",
    "predict": "exercises.predictions",
    "doctor": "cli.doctor",
    "models": "hub.listing",
}

__all__ = sorted(_OWNERS)


def __getattr__(name: str):
    if name not in _OWNERS:
        raise AttributeError(_unknown(name), name=name, obj=sys.modules[__name__])
    value = getattr(import_module(f"{__name__}.{_OWNERS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, __all__, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(__all__)}"
    return f"helpers has no {name!r}; {hint}"
