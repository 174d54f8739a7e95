"""select() in the full edition: a Segment Anything model, fetched when it is asked for, loaded and shown an image once.

The weights are random, so what it selects means nothing; that it is what plain transformers answers does.
"""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
import transformers

from helpers import CATALOG, MaskPainter, load_image, select, unload, use
from helpers.catalog import devices, memory_plan
from helpers.catalog.checkpoints import SEGMENTER
from helpers.common.sizes import GB
from helpers.hub import download
from helpers.hub.client import HubError
from helpers.pipelines import control_images, loading
from tests.hub import checkpoints as served
from tests.support.images import noise

FILES = ["config.json", "model.safetensors", "preprocessor_config.json"]
IMAGE = noise((64, 48))
PROMPTS = [{"point": (30, 20)}, {"box": (8, 6, 50, 40)}, {"point": (20, 30), "box": (3.4, 5.6, 40.2, 44)}]


@pytest.fixture
def hub(desk, monkeypatch):
    """The Hub with the two checkpoints that read images; this process is in the full edition, with an empty cache."""
    repositories = served.repositories(served.SMALL)
    for repo in (served.SEGMENTER, served.DEPTH):
        desk.push(repo, repositories[repo])
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    yield desk
    unload()


def encoded(monkeypatch) -> list:
    """Grows by one each time that the model is shown an image."""
    seen, plain = [], transformers.SamModel.get_image_embeddings

    def counted(self, pixel_values, **more):
        seen.append(pixel_values.shape)
        return plain(self, pixel_values, **more)

    monkeypatch.setattr(transformers.SamModel, "get_image_embeddings", counted)
    return seen


def plainly(image, point=None, box=None) -> np.ndarray:
    """What transformers answers, by its own documentation, as bool (h, w)."""
    folder = download.folders(CATALOG[SEGMENTER])[0]
    model, processor = transformers.SamModel.from_pretrained(folder), transformers.SamProcessor.from_pretrained(folder)
    points = None if point is None else [[list(point)]]
    boxes = None if box is None else [[[float(round(edge)) for edge in box]]]
    inputs = processor(image, input_points=points, input_boxes=boxes, return_tensors="pt")
    for name in {"input_points", "input_boxes"} & inputs.keys():
        inputs[name] = inputs[name].float()
    with torch.no_grad():
        outputs = model(**inputs, multimask_output=box is None)
    masks = processor.image_processor.post_process_masks(
        outputs.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )[0]
    return masks[0, outputs.iou_scores[0, 0].argmax()].numpy()


@pytest.mark.parametrize("size", [(64, 48), (37, 90), (1400, 900), (256, 256)])
@pytest.mark.parametrize("asked", PROMPTS, ids=["point", "box", "both"])
def test_it_is_what_transformers_answers_within_the_box(hub, asked, size) -> None:
    scale = np.divide(size, IMAGE.size)
    asked = {name: tuple(int(value * scale[n % 2]) for n, value in enumerate(values)) for name, values in asked.items()}
    image = noise(size, 3)
    expected = plainly(image, **asked)
    if "box" in asked:
        left, top, right, bottom = asked["box"]
        outside = np.ones(expected.shape, bool)
        outside[top:bottom, left:right] = False
        expected &= ~outside
    before = image.tobytes()
    found = select(image, **asked)
    assert (found.mode, found.size) == ("L", size) and set(found.tobytes()) <= {0, 255}
    assert 0 < expected.mean() < 1 and np.array_equal(np.asarray(found) > 0, expected)
    assert image.tobytes() == before


def test_it_is_fetched_when_an_object_is_asked_for_and_not_before(hub) -> None:
    for refused in ({}, {"point": (64, 3)}, {"box": (9, 9, 4, 20)}, {"box": (0, 0, 64, 48)}):
        with pytest.raises(ValueError):
            select(IMAGE, **refused)
    MaskPainter(IMAGE)
    assert hub.fetched(served.SEGMENTER) == []
    select(IMAGE, point=(30, 20))
    assert sorted(hub.fetched(served.SEGMENTER)) == FILES
    unload()
    select(IMAGE, point=(30, 20))
    assert sorted(hub.fetched(served.SEGMENTER)) == FILES


def test_it_is_loaded_once_shown_an_image_once_and_freed_by_unload(hub, monkeypatch) -> None:
    seen = encoded(monkeypatch)
    masks = [select(IMAGE, **asked).tobytes() for asked in PROMPTS * 2]
    assert masks[:3] == masks[3:] and len(set(masks)) == 3 and len(seen) == 1
    model = loading.image_reader(SEGMENTER)["model"]
    assert loading.image_reader(SEGMENTER)["model"] is model
    other = IMAGE.transpose(0)
    select(other, **PROMPTS[0])
    assert select(IMAGE, **PROMPTS[0]).tobytes() == masks[0] and len(seen) == 3
    with pytest.raises(RuntimeError, match=r"segmenter of the other edition are in memory. Call unload\(\) first"):
        use("mini")
    gone = weakref.ref(model)
    del model
    unload("sd15-inpaint")
    assert gone() is not None
    unload(SEGMENTER)
    gc.collect()
    assert gone() is None
    assert select(IMAGE, **PROMPTS[0]).tobytes() == masks[0]


def test_the_depth_estimator_is_kept_and_freed_alike(hub) -> None:
    depth = control_images.depth_map(IMAGE).tobytes()
    gone = weakref.ref(loading.image_reader("depth-estimator")["model"])
    assert (
        control_images.depth_map(IMAGE).tobytes() == depth
        and gone() is loading.image_reader("depth-estimator")["model"]
    )
    unload()
    gc.collect()
    assert gone() is None
    assert control_images.depth_map(IMAGE).tobytes() == depth


def test_half_precision_selects_nearly_the_same(hub, monkeypatch) -> None:
    image = load_image("lighthouse", size=128)
    whole = [np.asarray(select(image, **asked)) for asked in PROMPTS]
    unload()
    monkeypatch.setattr(devices, "dtype", lambda kind=None: torch.float16)
    half = [np.asarray(select(image, **asked)) for asked in PROMPTS]
    assert {weight.dtype for weight in loading.image_reader(SEGMENTER)["model"].parameters()} == {torch.float16}
    assert [(a == b).mean() > 0.97 for a, b in zip(whole, half, strict=True)] == [True] * 3


@pytest.mark.parametrize("free, device", [(4 * GB, "cuda"), (GB, "cpu")])
def test_a_gpu_without_room_leaves_it_in_main_memory(hub, monkeypatch, free, device) -> None:
    plain = memory_plan.plan_memory
    monkeypatch.setenv("COURSE_DEVICE", "cuda")
    monkeypatch.setattr(devices, "check_device", str)
    monkeypatch.setattr(devices, "free_memory", lambda device: free if device == "cuda" else 8 * GB)
    planned = []
    monkeypatch.setattr(memory_plan, "plan_memory", lambda *a, **k: planned.append(plain(*a, **k)) or planned[-1])
    monkeypatch.setattr(
        loading, "_read_reader", lambda checkpoint, source, plan: loading.LoadedCheckpoint("", plan, {}, {})
    )
    loading.image_reader(SEGMENTER)
    assert (planned[-1].device, planned[-1].offload, planned[-1].fits) == (device, "none", True)
    assert planned[-1].dtype == (torch.float16 if device == "cuda" else torch.float32)


def test_without_the_model_and_the_hub_it_says_what_to_type(hub, monkeypatch) -> None:
    monkeypatch.setattr(download.client, "offline", lambda: True)
    said = (
        "segmenter: facebook/sam-vit-base is incomplete on this machine, and HF_HUB_OFFLINE=1 is set. Unset it, then: "
    )
    with pytest.raises(HubError, match=said + "course download segmenter"):
        select(IMAGE, point=(30, 20))
    painter = MaskPainter(IMAGE)
    painter._handle_custom_msg({"select": {"point": [30, 20], "value": 255}}, [])
    assert said in painter._note and not painter.mask.getbbox()


def test_where_memory_is_short_it_says_so(hub, monkeypatch) -> None:
    monkeypatch.setattr(devices, "free_memory", lambda device: GB // 2)
    with pytest.raises(MemoryError, match=r"segmenter will not fit: it needs about 2.4 GB .* use\('mini'\)"):
        select(IMAGE, point=(30, 20))
    assert hub.fetched(served.SEGMENTER) == []


def test_a_click_in_the_painter_asks_it(hub) -> None:
    painter = MaskPainter(IMAGE)
    painter._handle_custom_msg({"select": {"point": [30, 20], "value": 255}}, [])
    assert painter.mask.tobytes() == select(IMAGE, point=(30, 20)).tobytes() and painter._note == ""


@pytest.mark.parametrize("size", [(1, 2), (2, 3), (9, 9), (300, 4), (5, 1300)])
def test_a_tiny_or_thin_image_gives_a_mask_or_a_clear_error(hub, size) -> None:
    for asked in ({"point": (0, 0)}, {"box": (0, 0, max(1, size[0] - 1), max(1, size[1] - 1))}):
        try:
            found = select(noise(size, 2), **asked)
        except ValueError as error:
            assert any(told in str(error) for told in ("nothing stands out", "holds the whole image", "not fractions"))
        else:
            assert found.size == size and found.getbbox()


def test_it_makes_no_images_and_the_mini_edition_has_none(hub) -> None:
    with pytest.raises(ValueError, match=r"'segmenter' makes no images. select\(image, point=\(x, y\)\) asks it"):
        loading.load(SEGMENTER)
    use("mini")
    with pytest.raises(FileNotFoundError, match=r"mini edition has no 'segmenter' and needs none: .* use\('full'\)"):
        _ = CATALOG[SEGMENTER].source
