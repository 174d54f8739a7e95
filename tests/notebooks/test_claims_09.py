"""What chapter 09 claims, on the miniatures: directions, counts and equal pictures; never how fast a machine is."""

from __future__ import annotations

import copy
import re
import shutil

import pytest
import torch

from helpers import change, check, load, measured
from helpers.cli import notebook_runner
from helpers.exercises import chapter_09
from tests.notebooks.running import mean, visited

CHAPTER = notebook_runner.NOTEBOOKS / "09_optimization.ipynb"
SOLUTIONS = notebook_runner.NOTEBOOKS / "solutions" / "09_optimization.ipynb"
MIB = 2**20
COMPILING = ("compile", "compile-gain")  # a test of its own does it, on fewer steps


@pytest.fixture(scope="module")
def chapter():
    """What its cells made, but for compiling."""
    names: dict = {}
    try:
        yield visited(CHAPTER, names, but=COMPILING)
    finally:
        torch.set_grad_enabled(True)  # the chapter's first cell turned it off
        if "own" in names:
            names["pipe"].unet.set_attn_processor(dict(names["own"]))


# What is paid for


def test_guidance_doubles_the_latents_and_steps_count_the_calls(chapter):
    found = re.findall(r"(\d+) calls, (\d+) latents each: (\d+) in all", chapter.said_by["count"])
    assert found == [("10", "2", "20"), ("10", "1", "10"), ("5", "2", "10")]


def test_a_call_computes_no_gradients_by_itself(chapter):
    with torch.enable_grad():
        seen = []
        hook = chapter.pipe.unet.register_forward_hook(lambda unet, args, output: seen.append(output[0].requires_grad))
        chapter.paint(num_inference_steps=1)
        hook.remove()
    assert seen == [False]


# Attention


def test_twice_the_side_is_a_map_sixteen_times_as_large(chapter):
    small, large = (
        int(n.replace(",", "")) for n in re.findall(r"a map of ([\d,]+)", chapter.said_by["attention-places"])
    )
    assert large == 16 * small


def test_attention_that_writes_its_map_takes_more_memory(chapter):
    sdpa, plain, sliced = (
        chapter.names_after["sdpa"].costs[name].resident / MIB for name in list(chapter.names_after["sdpa"].costs)[:3]
    )
    assert plain > sdpa + 25 and plain > sliced + 10


def test_every_way_of_attention_paints_the_same(chapter):
    apart = [int(number) for number in re.findall(r"at most (\d+) of 255", chapter.said_by["sdpa-same"])]
    assert len(apart) >= 3 and apart[0] == 0 and max(apart) <= 4


def test_sdpa_is_the_default(chapter):
    assert {type(one).__name__ for one in chapter.pipe.unet.attn_processors.values()} == {"AttnProcessor2_0"}


# Halves


def test_halves_take_half_and_bfloat16_strays_further(chapter):
    sizes = [float(number) for number in re.findall(r"(\d+) MiB of weights", chapter.said_by["half"])]
    assert sizes[1] == sizes[2] == pytest.approx(sizes[0] / 2, abs=1)
    full, bfloat, half = (float(n) for n in re.findall(r"([\d.]+) grey levels", chapter.said_by["half-same"]))
    assert full == 0 and half < bfloat and half < 5


# Offload


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is an accelerator")
def test_offload_needs_a_card_and_says_so(chapter):
    assert "there is none here: `enable_model_cpu_offload` requires accelerator" in chapter.said_by["offload"]


# The VAE


def test_tiles_and_slices_take_less_memory(chapter):
    whole, tiled = (one.resident / MIB for one in chapter.tiles.values())
    eight, sliced = (one.resident / MIB for one in chapter.slices.values())
    assert whole > 2 * tiled and eight > 1.5 * sliced


def test_slices_cannot_be_seen_and_tiles_can(chapter):
    assert float(re.search(r"in slices: ([\d.]+)", chapter.said_by["vae-same"])[1]) <= 1
    assert 0 < float(re.search(r"in tiles: +([\d.]+)", chapter.said_by["vae-same"])[1]) < 5
    assert chapter.vae.use_tiling is False and chapter.vae.use_slicing is False


# Order, compiling


def test_order_and_fusing_change_no_more_than_rounding(chapter):
    apart = [int(number) for number in re.findall(r"at most (\d+) of 255", chapter.said_by["order-same"])]
    assert len(apart) == 3 and max(apart) <= 4
    assert "load() gives channels last: True" in chapter.said_by["order-same"]


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_a_compiled_block_paints_the_same(chapter):
    one = chapter.with_unet(lambda unet: unet.compile_repeated_blocks())
    assert change(chapter.paint(num_inference_steps=2), chapter.paint(one, num_inference_steps=2)).inside < 1


def test_another_runtime_runs_the_unet_and_makes_the_same_image(chapter):
    assert int(re.search(r"at most (\d+) of 255 apart", chapter.said_by["runtime"])[1]) <= 1
    assert chapter.runtimes["ONNX Runtime"].unet._graph.sessions, "the graph ran"


# Steps


def adherence_at(chapter, name: str, steps: int) -> float:
    found = zip(chapter.by_steps, measured(chapter.by_steps, "adherence"), strict=True)
    wanted = (f"{name}Scheduler", steps)
    return mean(
        value for one, value in found if (one.parameters["scheduler"], one.parameters["num_inference_steps"]) == wanted
    )


def test_a_few_steps_are_enough_and_two_are_not(chapter):
    for name in ("DPMSolverMultistep", "UniPCMultistep"):
        assert adherence_at(chapter, name, 6) > adherence_at(chapter, name, 20) - 0.1
    two = {name: adherence_at(chapter, name, 2) for name in ("DDIM", "EulerDiscrete", "DPMSolverMultistep")}
    assert max(two["DDIM"], two["EulerDiscrete"]) < two["DPMSolverMultistep"]
    assert two["DDIM"] < adherence_at(chapter, "DDIM", 20) - 0.1


# Guidance, switched off late


def test_the_documented_callback_works_for_text_and_crashes_inpainting(chapter):
    assert re.findall(r"(\S+): (works|RuntimeError)", chapter.said_by["cutoff"]) == [
        ("text-to-image", "works"),
        ("inpainting", "RuntimeError"),
    ]


def test_later_cutoffs_ask_more_and_change_less(chapter):
    found = re.findall(r"guided in +(\d+) of 10 steps: (\d+) questions, +([\d.]+)", chapter.said_by["cutoff-cure"])
    guided, asked, away = (list(map(float, column)) for column in zip(*found, strict=True))
    assert asked == [10 + steps for steps in guided]
    assert away[0] == 0 and away[1] < away[-1] and away[-2] < away[-1]


def latents(chapter, pipe, last, **hook):
    """The final latents of the chapter's call, guided up to step `last`."""
    call = chapter.call | chapter.hole | (hook or chapter.guided_until(last)) | {"output_type": "latent"}
    pipe.set_progress_bar_config(disable=True)
    return pipe(**call, generator=torch.Generator().manual_seed(0)).images


@pytest.mark.parametrize("last", [0, 4, 8])
def test_a_cutoff_is_a_plain_loop_with_the_prompt_alone_bit_for_bit(chapter, last):
    pipe, found = chapter.inpaint, {}

    def keep(pipe, step, timestep, tensors):
        if step == last:
            found.update({name: value.clone() for name, value in tensors.items()})
            found["scheduler"] = copy.deepcopy(pipe.scheduler)
        return tensors

    names = ["latents", "prompt_embeds", "mask", "masked_image_latents"]
    guided = latents(chapter, pipe, last, callback_on_step_end=keep, callback_on_step_end_tensor_inputs=names)
    scheduler, x = found["scheduler"], found["latents"]
    for t in scheduler.timesteps[last + 1 :]:
        seen = torch.cat([scheduler.scale_model_input(x, t), found["mask"][1:], found["masked_image_latents"][1:]], 1)
        x = scheduler.step(pipe.unet(seen, t, found["prompt_embeds"][1:], return_dict=False)[0], t, x)[0]
    cut = latents(chapter, pipe, last)
    assert torch.equal(cut, x) and not torch.equal(cut, guided)


def test_a_cutoff_after_the_last_step_is_the_plain_call_and_the_next_call_is_guided(chapter):
    plain = latents(chapter, chapter.inpaint, 9, callback_on_step_end=None)
    assert torch.equal(latents(chapter, chapter.inpaint, 9), plain)
    latents(chapter, chapter.inpaint, 2)
    assert torch.equal(latents(chapter, chapter.inpaint, 9, callback_on_step_end=None), plain)


def test_it_works_for_a_regular_checkpoint_too(chapter):
    pipe, steps = load("sd15", task="inpaint"), []
    hook = pipe.unet.register_forward_pre_hook(lambda unet, args: steps.append(len(args[0])))
    try:
        assert latents(chapter, pipe, 4).isfinite().all() and steps == [2] * 5 + [1] * 5
    finally:
        hook.remove()


# Batches, embeddings


def test_a_batch_paints_what_single_calls_paint(chapter):
    apart = [int(number) for number in re.findall(r"at most (\d+) of 255", chapter.said_by["batch"])]
    assert len(apart) == 4 and max(apart) <= 4


def test_a_larger_batch_takes_more_memory(chapter):
    one, *_, eight = (found.resident for found in chapter.names_after["batch"].costs.values())
    assert eight > one


def test_kept_embeddings_paint_the_same_picture_and_spare_the_text_encoder(chapter):
    assert "bit for bit: True" in chapter.said_by["embeddings"]
    read = []
    hook = chapter.pipe.text_encoder.register_forward_pre_hook(lambda *_: read.append(1))
    chapter.paint(num_inference_steps=1, **chapter.kept)
    spared = len(read)
    chapter.paint(num_inference_steps=1)
    hook.remove()
    assert spared == 0 and len(read) > 0


def test_all_together_asks_the_unet_less_and_paints_as_well(chapter):
    from helpers import adherence

    before, after = (chapter.names_after["together"].costs[name].result for name in ("before", "after"))
    assert len(before) == len(after) == 4
    scores = [mean(adherence(pictures, chapter.call["prompt"])) for pictures in (before, after)]
    assert scores[1] > scores[0] - 0.15


# Memory


def test_a_rescued_batch_is_complete_and_says_how(chapter):
    assert "one image at a time" in chapter.said_by["memory"] and len(chapter.pictures) == 3
    assert not chapter.pipe.unet._forward_pre_hooks


# The table, the solutions


def test_the_text_names_what_the_table_says(chapter):
    column = chapter.table.columns.index("8 GB")
    cells = {row[0]: row[column] for row in chapter.table.rows}
    assert cells["sdxl-inpaint"].startswith("enable_model_cpu_offload()") and cells["sd15"].startswith("as it is")


def test_the_count_of_the_exercise_is_what_the_unet_sees(chapter):
    asked = []
    hook = chapter.pipe.unet.register_forward_pre_hook(lambda unet, args: asked.append(len(args[0])))
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    chapter.pipe(["a boat"] * 4, num_inference_steps=3, guidance_scale=7.5, generator=generators)
    hook.remove()
    assert check("09.1", sum(asked) * chapter_09.STEPS // 3)
