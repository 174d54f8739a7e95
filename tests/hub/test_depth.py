"""depth_map in the full edition: drawn depths need nothing, others fetch the catalogue's estimator, once."""

from __future__ import annotations

from tests.hub.checkpoints import DEPTH

CODE = """import sys
from helpers import depth_map, load_image
image = load_image("jungle", size=64)
drawn = depth_map(image)
print(drawn.mode, drawn.size)
if "estimate" in sys.argv:
    estimated = depth_map(image, estimate=True)
    print(estimated.mode, estimated.size, estimated.tobytes() != drawn.tobytes())"""


def test_only_an_estimate_is_fetched_and_a_second_needs_no_network(machine, hub):
    assert machine.python(CODE).stdout.splitlines() == ["RGB (64, 64)"]
    assert hub.fetched(DEPTH) == []
    done = machine.python(CODE, "estimate")
    assert done.stdout.splitlines() == ["RGB (64, 64)", "RGB (64, 64) True"], done.stderr
    fetched = set(hub.fetched(DEPTH))
    assert {"config.json", "preprocessor_config.json", "model.safetensors"} <= fetched
    assert not [path for path in fetched if path.endswith((".bin", ".ckpt", ".py"))]
    machine.offline()
    again = machine.python(CODE, "estimate")
    assert again.stdout == done.stdout, again.stderr
