"""Everything a chapter of the course uses, by name; nothing heavy is imported before it is asked for.

Some names (`handoff`, `measure`, `rescue`, `sweep`) belong to a function and to a module as well. Here they mean the
function; `from helpers.measure import ...` still reaches the module.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

# public name: the module that owns it
_OWNERS = {
    "CATALOG": "catalog",
    "edition": "catalog",
    "use": "catalog",
    "load": "pipelines",
    "weigh": "prompts",
    "unload": "pipelines",
    "load_image": "images",
    "load_mask": "images",
    "show": "images",
    "box_mask": "masks",
    "ellipse_mask": "masks",
    "polygon_mask": "masks",
    "alpha_mask": "masks",
    "grow": "masks",
    "shrink": "masks",
    "invert": "masks",
    "blur": "masks",
    "fit": "masks",
    "share": "masks",
    "threshold": "masks",
    "keep_unmasked": "masks",
    "change": "measure",
    "seam": "measure",
    "adherence": "measure",
    "measure": "costs",
    "measure_each": "costs",
    "outpaint": "outpainting",
    "handoff": "handoff",
    "switch": "switching",
    "Record": "records",
    "chart": "charts",
    "measured": "quantities",
    "rescue": "rescue",
    "sweep": "sweep",
    "grid": "grids",
    "Compare": "widgets",
    "MaskPainter": "widgets",
    "Explorer": "widgets",
    "TokenWeights": "widgets",
    "canny_edges": "conditioning",
    "depth_map": "conditioning",
    "inpaint_condition": "conditioning",
    "check": "exercises",
    "doctor": "checkup",
    "models": "listing",
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


class _Package(ModuleType):
    """Keeps `helpers.measure` the function when something imports the module of the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _OWNERS and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
