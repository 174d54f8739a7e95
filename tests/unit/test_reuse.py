"""Exact reuse: the same pixels as the plain call, fewer model runs, and no stale result after any change."""

from __future__ import annotations

import threading
import time

import diffusers
import pytest
import torch

from helpers.reuse import Shelf, reusing
from tests.unit.test_records import arguments, half_mask, noise
from tests.unit.tiny import inpaint_pipeline, quiet, tiny_course  # noqa: F401

pytestmark = pytest.mark.usefixtures("tiny_course")


def generators(seeds) -> list:
    made = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    return made if len(made) > 1 else made[0]


def pixels(pipe, call: dict, *seeds: int) -> list[bytes]:
    images = pipe(**call, generator=generators(seeds), num_images_per_prompt=len(seeds)).images
    return [image.tobytes() for image in images]


@pytest.fixture
def runs(monkeypatch):
    """Count the forwards of a model: runs(model)() is how many there were since."""

    def counter(model):
        count = [0]
        model.register_forward_pre_hook(lambda *_: count.__setitem__(0, count[0] + 1))
        return lambda: count[0]

    return counter


@pytest.mark.parametrize(
    ("name", "task"),
    [("sd15", "text2image"), ("sd15", "image2image"), ("sd15", "inpaint"), ("sd15-inpaint", "inpaint"),
     ("sdxl-inpaint", "inpaint")],
)  # fmt: skip
def test_the_pixels_are_those_of_the_plain_call(name, task) -> None:
    pipe = quiet(name, task)
    base = arguments(pipe, task, num_inference_steps=4)
    if task != "text2image":
        base["strength"] = 0.5
    variations = [({}, (1,)), ({}, (2,)), ({}, (3, 4))]
    variations += [({"guidance_scale": 4.0}, (1,)), ({"negative_prompt": "b"}, (1,))]
    if task != "text2image":
        variations += [({"strength": 1.0}, (1,)), ({"image": noise(9)}, (1,))]
    if task == "inpaint":
        variations += [({"mask_image": noise(3, "L")}, (5,)), ({"padding_mask_crop": 4}, (5,))]
    plain = [pixels(pipe, base | more, *seeds) for more, seeds in variations]
    with reusing(pipe) as shelf:
        assert [pixels(pipe, base | more, *seeds) for more, seeds in variations] == plain
        first = shelf.hits
        assert first > 0
        assert [pixels(pipe, base | more, *seeds) for more, seeds in variations] == plain
        assert shelf.hits > 2 * first
    for owner, names in ((pipe, ["encode_prompt"]), (pipe.vae, ["encode"]), (pipe.image_processor, ["preprocess"])):
        assert not set(names) & set(vars(owner))
    assert pixels(pipe, base, 1) == plain[0]


def test_encoders_run_once(inpaint, runs) -> None:
    call = arguments(inpaint, "inpaint", strength=0.5, num_inference_steps=4)
    encoded, read = runs(inpaint.vae.encoder), runs(inpaint.text_encoder)
    with reusing(inpaint):
        pixels(inpaint, call, 1)
        once = encoded(), read()
        assert once == (2, 2)  # the picture and the masked picture; prompt and negative prompt
        for strength in (0.5, 0.75, 1.0):
            pixels(inpaint, call | {"strength": strength}, 7)
        assert (encoded(), read()) == once
        pixels(inpaint, call | {"prompt": "a dog"}, 1)
        assert (encoded(), read()) == (2, 4)
        pixels(inpaint, call | {"mask_image": noise(5, "L")}, 1)
        assert (encoded(), read()) == (3, 4)


def swap_text(pipe):
    pipe.text_encoder = type(pipe.text_encoder)(pipe.text_encoder.config).eval()


def text_weights(pipe):
    with torch.no_grad():
        pipe.text_encoder.get_input_embeddings().weight.mul_(-1)


def vae_weights(pipe):
    with torch.no_grad():
        pipe.vae.encoder.conv_in.weight.mul_(-2)


def vae_data(pipe):
    pipe.vae.encoder.conv_in.weight.data.mul_(-2)


def vae_state(pipe):
    state = {key: value * 1.5 if "encoder" in key else value for key, value in pipe.vae.state_dict().items()}
    pipe.vae.load_state_dict(state)


def double(pipe):
    pipe.to(torch.float64)


def half_precision(pipe):
    pipe.to(torch.bfloat16)


def memory_order(pipe):
    pipe.vae.to(memory_format=torch.contiguous_format)


def processor(pipe):
    pipe.image_processor.register_to_config(resample="nearest")


def scheduler(pipe):
    pipe.scheduler = diffusers.EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)


def tiling(pipe):
    pipe.vae.enable_slicing()


CHANGES = [swap_text, text_weights, vae_weights, vae_data, vae_state, half_precision, double, memory_order, processor,
           scheduler, tiling]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_no_change_is_missed(inpaint, change) -> None:
    call = arguments(inpaint, "inpaint", strength=0.5, num_inference_steps=4, image=noise(1, size=48))
    with reusing(inpaint):
        before = pixels(inpaint, call, 1)
        torch.manual_seed(0)
        change(inpaint)
        reused = [pixels(inpaint, call, 1) for _ in range(2)]
    plain = pixels(inpaint, call, 1)
    assert reused == [plain, plain]
    if change not in (memory_order, tiling):  # these change bits at most
        assert plain != before


def test_inputs_changed_in_place_are_noticed(inpaint) -> None:
    call = arguments(inpaint, "inpaint", strength=0.5, num_inference_steps=4)
    with reusing(inpaint):
        before = pixels(inpaint, call, 1)
        call["image"].paste(0, (0, 0, 20, 20))
        call["mask_image"].paste(255, (0, 0, 32, 10))
        reused = pixels(inpaint, call, 1)
    assert reused == pixels(inpaint, call, 1) != before


def test_what_a_caller_does_to_a_result_stays_with_the_caller(inpaint) -> None:
    with reusing(inpaint), torch.no_grad():
        first, _ = inpaint.encode_prompt("a cat", "cpu", 1, True)
        kept = first.clone()
        first.zero_()
        second, _ = inpaint.encode_prompt("a cat", "cpu", 1, True)
        second.zero_()
        assert torch.equal(inpaint.encode_prompt("a cat", "cpu", 1, True)[0], kept)
        picture = torch.rand(1, 3, 32, 32)
        one = inpaint.vae.encode(picture).latent_dist
        one.mean.zero_()
        other = inpaint.vae.encode(picture).latent_dist
        assert other.mean.abs().sum() > 0
        assert torch.equal(inpaint.vae.encode(picture, return_dict=False)[0].mean, other.mean)


def test_training_is_left_alone(inpaint) -> None:
    picture = torch.rand(1, 3, 32, 32)
    with reusing(inpaint) as shelf:
        mean = inpaint.vae.encode(picture).latent_dist.mean
        mean.sum().backward()
        assert inpaint.vae.encoder.conv_in.weight.grad is not None
        inpaint.text_encoder.train()
        with torch.no_grad():
            inpaint.encode_prompt("a cat", "cpu", 1, True)
        inpaint.text_encoder.eval()
        assert len(shelf) == 0
        inpaint.vae.zero_grad(set_to_none=True)


def test_a_shelf_goes_from_block_to_block(inpaint, runs) -> None:
    call = arguments(inpaint, "inpaint", strength=0.5, num_inference_steps=2)
    encoded = runs(inpaint.vae.encoder)
    with reusing(inpaint) as shelf:
        pixels(inpaint, call, 1)
    count = encoded()
    with reusing(inpaint, shelf=shelf):
        pixels(inpaint, call, 2)
    assert encoded() == count
    pixels(inpaint, call, 2)
    assert encoded() > count


def test_blocks_may_nest_and_end_in_any_order(inpaint) -> None:
    first, second = reusing(inpaint), reusing(inpaint)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    with torch.no_grad():
        inpaint.encode_prompt("a cat", "cpu", 1, True)
    second.__exit__(None, None, None)
    assert "encode_prompt" not in vars(inpaint) and "encode" not in vars(inpaint.vae)


def test_an_error_inside_leaves_the_pipeline_as_it_was(inpaint) -> None:
    with pytest.raises(ZeroDivisionError), reusing(inpaint):
        raise ZeroDivisionError
    assert "encode_prompt" not in vars(inpaint) and "encode" not in vars(inpaint.vae)


def test_a_shelf_stays_within_its_bytes() -> None:
    shelf = Shelf(100)
    for key in "abc":
        shelf.put(key, key.upper(), 40)
    assert shelf.get("a") is None and shelf.get("b") == "B" and shelf.get("c") == "C"
    shelf.get("b")
    shelf.put("d", "D", 40)
    assert shelf.get("c") is None and shelf.get("b") == "B" and len(shelf) == 2 and shelf.size == 80
    shelf.put("e", "E", 101)
    assert shelf.get("e") is None and len(shelf) == 2
    shelf.put("b", "B2", 60)
    assert shelf.size == 100 and shelf.get("b") == "B2"
    shelf.clear()
    assert shelf.size == 0 and shelf.get("b") is None
    with pytest.raises(ValueError, match="limit=-1: expected a number of bytes"):
        Shelf(-1)


def test_reuse_is_bounded_in_memory(inpaint) -> None:
    with reusing(inpaint, shelf=Shelf(30_000)) as shelf, torch.no_grad():
        for word in range(20):
            inpaint.encode_prompt(f"prompt {word}", "cpu", 1, True)
            assert shelf.size <= 30_000
        assert 0 < len(shelf) < 20


def test_two_threads_share_a_shelf(inpaint) -> None:
    words = [f"{letter}{number}" for letter in "abcd" for number in range(50)]
    plain = {word: inpaint.encode_prompt(word, "cpu", 1, False)[0].detach() for word in words}
    wrong = []

    def read() -> None:
        with torch.no_grad():
            for _ in range(2):
                for word, expected in plain.items():
                    found = inpaint.encode_prompt(word, "cpu", 1, False)[0]
                    if found.shape != expected.shape or not torch.allclose(found, expected, atol=1e-5):
                        wrong.append(word)

    with reusing(inpaint):
        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert wrong == []


def test_models_never_run_in_two_threads_at_once(inpaint, monkeypatch) -> None:
    running, most = [], []
    plain = inpaint.encode_prompt

    def slow(*args, **kwargs):
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        found = plain(*args, **kwargs)
        running.pop()
        return found

    monkeypatch.setattr(inpaint, "encode_prompt", slow)

    def read(word: str) -> None:
        with torch.no_grad():
            inpaint.encode_prompt(word, "cpu", 1, False)

    with reusing(inpaint):
        threads = [threading.Thread(target=read, args=(word,)) for word in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert most == [1, 1, 1, 1]


def test_masks_and_pictures_are_told_apart(inpaint) -> None:
    with reusing(inpaint):
        mask = inpaint.mask_processor.preprocess(half_mask(), height=32, width=32)
        picture = inpaint.image_processor.preprocess(half_mask(), height=32, width=32)
        assert mask.shape[1] == 1 and set(mask.unique().tolist()) == {0.0, 1.0} and picture.min() == -1
