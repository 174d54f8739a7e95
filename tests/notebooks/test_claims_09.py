"""What chapter 09 claims, on the miniatures: directions, counts and equal images; never how fast a machine is."""

from __future__ import annotations

import copy
import os
import re
import shutil

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from helpers import adherence, change, check, load, measured, sweep
from helpers.cli import notebook_runner
from helpers.exercises import chapter_09
from tests.notebooks.running import cells, mean, visited

CHAPTER = notebook_runner.NOTEBOOKS / "09_optimization.ipynb"
SOLUTIONS = notebook_runner.NOTEBOOKS / "solutions" / "09_optimization.ipynb"
MIB = 2**20


@pytest.fixture(scope="module")
def chapter():
    """What its cells made on a machine without a C++ compiler; tests of their own compile smaller things."""
    names: dict = {}
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shutil, "which", lambda *_, **__: None)
            seen = visited(CHAPTER, names)
        yield seen
    finally:
        torch.set_grad_enabled(True)  # the chapter's first cell turned it off
        if "own" in names:
            names["pipe"].unet.set_attn_processor(dict(names["own"]))
        os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)  # a cell on compiling set it


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
    plain, compiled = (np.asarray(chapter.paint(pipe, num_inference_steps=2), int) for pipe in (load("sd15"), one))
    assert np.abs(compiled - plain).max() <= 1


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the mode records CUDA graphs")
def test_reduce_overhead_builds_no_new_kernel_on_a_cpu(monkeypatch, tmp_path):
    from diffusers.models.attention import FeedForward

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    part = next(one for one in load("sd15").unet.modules() if isinstance(one, FeedForward))
    hidden = torch.randn(3, 50, part.net[0].proj.in_features)  # a size that no other test compiles
    made, kernels = [], []
    for how in ({}, {"mode": "reduce-overhead", "fullgraph": True}):
        torch.compiler.reset()
        with torch.no_grad():
            made.append(torch.compile(part, **how)(hidden))
        kernels.append(sorted(file.name for file in tmp_path.rglob("*.so")))
    assert kernels[0] == kernels[1] != [] and torch.equal(*made)


def test_without_a_compiler_the_chapter_says_how_to_get_one_and_goes_on(chapter):
    assert "No C++ compiler was found" in chapter.said_by["compile"]
    assert list(chapter.pipelines) == ["as it is", "ONNX Runtime"]


def test_the_guides_line_stands_in_the_chapter_word_for_word():
    line = 'pipeline.unet = torch.compile(pipeline.unet, mode="reduce-overhead", fullgraph=True)'
    assert line in cells(CHAPTER)["compile"]


def test_another_runtime_runs_the_unet_and_makes_the_same_image(chapter):
    assert chapter.names_after["runtime"].apart == {"as it is": 0, "ONNX Runtime": pytest.approx(0, abs=1)}
    assert chapter.pipelines["ONNX Runtime"].unet._graph.sessions, "the graph ran"


def test_one_chart_has_seconds_first_call_memory_and_difference(chapter):
    figure = chapter.displayed["runtime"]
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "seconds an image",
        "MiB (resident growth, peak)",
        "first call, seconds",
        "largest difference, of 255",
    ]
    assert [row["variant"] for row in figure.numbers] == list(chapter.pipelines)


# Steps


def adherence_at(chapter, name: str, steps: int) -> float:
    found = zip(chapter.by_steps, measured(chapter.by_steps, "adherence"), strict=True)
    wanted = (f"{name}Scheduler", steps)
    return mean(
        value for one, value in found if (one.parameters["scheduler"], one.parameters["num_inference_steps"]) == wanted
    )


def test_a_few_steps_are_enough(chapter):
    for name in ("DDIM", "EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep"):
        assert adherence_at(chapter, name, 10) > adherence_at(chapter, name, 20) - 0.03
        assert adherence_at(chapter, name, 2) < adherence_at(chapter, name, 20) - 0.1
    for name in ("DPMSolverMultistep", "UniPCMultistep"):
        assert adherence_at(chapter, name, 6) > adherence_at(chapter, name, 20) - 0.1


def test_with_two_steps_it_matters_where_a_scheduler_steps_and_not_whether_it_looks_back(chapter):
    """Sixteen seeds: as the chapter shows them, and with a solver of first order at either pair of levels."""
    assert [name.removesuffix("Scheduler") for name in chapter.names] == [
        "DDIM", "EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep",
    ]  # fmt: skip
    assert re.findall(r"at t = (\[.*?\])", chapter.said_by["steps-rate"]) == ["[501, 1]"] * 2 + ["[667, 334]"] * 2
    seen = chapter.names_after["steps-rate"]
    scores, away = (np.reshape(values, (4, 16)) for values in (seen.scores, seen.away))
    for late, early in ((0, 2), (1, 3)):
        assert scores[early].mean() > scores[late].mean() + 0.08, "the judge tells them apart"
        assert away[early].mean() < away[late].mean() - 8
        assert (away[early] < away[late]).sum() >= 13, "with nearly every seed"
    pipe = load("sd15")
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, solver_order=1)
    for where, like in (([667, 334], 2), ([501, 1], 0)):
        made = sweep(pipe, over={"seed": range(16)}, batch=True, timesteps=where, progress=False, **chapter.still)
        far = [change(there.image, one.image).inside for there, one in zip(seen.finished, made, strict=True)]
        assert mean(far) == pytest.approx(away[like].mean(), abs=3)


def test_each_step_is_one_more_question_and_the_rest_is_the_same(chapter):
    """Why the time is a straight line over the steps that does not begin at zero."""
    counted = {}
    for steps in (2, 10, 20):
        counted[steps] = []
        for part in ("unet", "text_encoder"):
            asked = []
            hook = getattr(chapter.pipe, part).register_forward_pre_hook(lambda *_, asked=asked: asked.append(1))
            chapter.paint(num_inference_steps=steps)
            hook.remove()
            counted[steps].append(len(asked))
    assert [unet for unet, _ in counted.values()] == [2, 10, 20]
    assert len({texts for _, texts in counted.values()}) == 1 and counted[2][1] > 0


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


def test_kept_embeddings_paint_the_same_image_and_spare_the_text_encoder(chapter):
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
    scores = [mean(adherence(images, chapter.call["prompt"])) for images in (before, after)]
    assert scores[1] > scores[0] - 0.15


# Memory


def test_a_rescued_batch_is_complete_and_says_how(chapter):
    assert "one image at a time" in chapter.said_by["memory"] and len(chapter.images) == 3
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


# Distilled


def test_four_distilled_steps_ask_four_questions_and_follow_the_prompt(chapter):
    asked = []
    hook = chapter.few.unet.register_forward_pre_hook(lambda unet, args: asked.append(len(args[0])))
    images = [chapter.paint(chapter.few, seed, **chapter.quick) for seed in range(8)]
    hook.remove()
    assert asked == [1] * 4 * 8
    guided = [chapter.paint(seed=seed, **chapter.full) for seed in range(8)]
    quick, full = (mean(adherence(image, chapter.call["prompt"]) for image in some) for some in (images, guided))
    assert quick > 0.85 and quick > full - 0.1


def test_without_guidance_a_negative_prompt_moves_nothing_and_with_a_little_it_does(chapter):
    found = re.findall(r"seeds are +([\d.]+) .* moves +([\d.]+)", chapter.said_by["traded"])
    apart, moved = ([float(value) for value in column] for column in zip(*found, strict=True))
    assert moved[1] == 0.0 and moved[0] > 10 and moved[2] > 10
    assert apart[1] > 0.75 * apart[0]  # variety is not what is lost here


def test_more_guidance_on_top_burns_the_image(chapter):
    shares = [float(value) for value in re.findall(r": +([\d.]+)% of the values", chapter.said_by["traded-guidance"])]
    assert max(shares[:2]) < 1 and shares[2] > 5 and shares[3] > 1.5 * shares[2]


def test_the_lora_of_the_section_touches_no_other_pipeline(chapter):
    assert not hasattr(chapter.pipe.unet, "peft_config") and chapter.few.unet is not chapter.pipe.unet
