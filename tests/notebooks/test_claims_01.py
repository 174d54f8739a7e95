"""What chapters 00 and 01 claim, on the miniatures: 01's own cells are run here, and measured over several seeds."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from helpers import CATALOG, adherence, change, keep_unmasked, load, load_image, load_mask, sharpness
from helpers.catalog import devices
from helpers.cli import notebook_runner
from helpers.exercises import chapter_01
from tests.notebooks.running import mean, visited

CHAPTER = notebook_runner.NOTEBOOKS / "01_basics.ipynb"
STEPS = 20
SEEDS = range(4)
GUIDE = "a black cat with glowing eyes, cute, adorable, disney, pixar, highly detailed, 8k"


def seed(number: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(number)


def quiet(*name: str, **task: str):
    pipe = load(*name, **task)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def chapter():
    """What its cells made."""
    return visited(CHAPTER)


@pytest.fixture(scope="module")
def pipe():
    return quiet("sd15-inpaint")


@pytest.fixture(scope="module")
def img2img():
    return quiet("sd15", task="image2image")


@pytest.fixture(scope="module")
def meadow():
    return load_image("meadow"), load_mask("meadow")


@pytest.fixture(scope="module")
def paint(pipe, meadow):
    """Inpaint the meadow: paint(prompt, number of the seed, **more)."""
    image, mask = meadow

    def paint(prompt: str, number: int = 0, **more):
        call = {"image": image, "mask_image": mask, "num_inference_steps": STEPS, "generator": seed(number)} | more
        return pipe(prompt, **call).images[0]

    return paint


@pytest.fixture(scope="module")
def cats(paint):
    """The guide's prompt in the meadow, one picture a seed."""
    return [paint(GUIDE, number) for number in SEEDS]


# Chapter 00


def test_the_first_cell_paints_a_black_cat(cats) -> None:
    assert mean(adherence(cat, "a black cat") for cat in cats) > 0.6


def test_a_miniature_has_a_hundredth_of_the_numbers(pipe) -> None:
    for part, millions in CATALOG["sd15-inpaint"].parameters.items():
        here = sum(weight.numel() for weight in getattr(pipe, part).parameters())
        assert here < millions * 1_000_000 / 20, part
    assert sum(weight.numel() for weight in pipe.unet.parameters()) < 10_000_000  # of 860 million


# Chapter 01: three steps, and load()


def test_plain_diffusers_paints_the_same_as_load(chapter) -> None:
    assert (
        type(chapter.plain) is type(chapter.pipe) and type(chapter.plain).__name__ == "StableDiffusionInpaintPipeline"
    )
    assert chapter.plain.unet is not chapter.pipe.unet
    assert change(chapter.cat, chapter.again).inside < 1


def test_the_guides_words_are_out_of_date(pipe) -> None:
    from diffusers import AutoPipelineForInpainting

    checkpoint = CATALOG["sd15-inpaint"]
    with pytest.raises(ValueError, match="torch_dtype"):
        AutoPipelineForInpainting.from_pretrained(
            checkpoint.source, torch_dtype=torch.float32, **checkpoint.load_kwargs
        )
    assert not any(entry.hub_id.startswith("runwayml/") for entry in CATALOG.values())
    assert any("AttnProcessor2_0" in type(processor).__name__ for processor in pipe.unet.attn_processors.values())


@pytest.mark.skipif(devices.device() != "cpu", reason="offload works here: there is an accelerator")
def test_offload_needs_an_accelerator() -> None:
    with pytest.raises(RuntimeError, match="accelerator"):
        quiet("sd15-inpaint").enable_model_cpu_offload()


# Chapter 01: the guide's own first example


@pytest.fixture(scope="module")
def guides_cats(chapter):
    """Kandinsky's cats with the guide's prompt, one image a seed; and the pair that they began with."""
    return [chapter.guides, *(guides_cat(chapter, number) for number in SEEDS[1:])], chapter.pair


def guides_cat(chapter, number: int, **more):
    size = CATALOG["kandinsky22-inpaint"].size
    call = chapter.pair | {"height": size, "width": size, "num_inference_steps": 25}
    return chapter.kandinsky(GUIDE, **call, **more, generator=seed(number)).images[0]


def test_kandinsky_paints_the_guides_cat_into_the_mask(guides_cats) -> None:
    cats, pair = guides_cats
    assert mean(adherence(cat, "a black cat") for cat in cats) > 0.6
    moved = [change(pair["image"], cat, pair["mask_image"]) for cat in cats]
    assert mean(one.inside for one in moved) > 3 * mean(one.outside for one in moved)


def test_kandinskys_cat_turns_sharper_and_darker_with_the_guides_negative_prompt(chapter) -> None:
    """Sixteen seeds, as the text has them."""
    assert list(chapter.against) == ["no negative prompt", "the guide's", "the guide's, half the guidance"]
    against, numbers = {"negative_prompt": chapter.negative_prompt}, range(1, 16)
    ways = [{}, against, against | {"guidance_scale": 2.0}]
    cats = [
        [first, *(guides_cat(chapter, number, **more) for number in numbers)]
        for first, more in zip(chapter.against.values(), ways, strict=True)
    ]
    hole = np.asarray(chapter.pair["mask_image"]) >= 128
    dark = [mean((np.asarray(cat.convert("L"))[hole] < 40).mean() for cat in of_one) for of_one in cats]
    assert 0.01 < dark[0] < 0.04 and 0.055 < dark[1] < 0.09
    plain, guided, half = (np.array([sharpness(cat.crop(chapter.box)) for cat in of_one]) for of_one in cats)
    assert sum(guided > plain) >= 13 and 1.15 < guided.mean() / plain.mean() < 1.35
    assert 0.15 < (half.mean() - plain.mean()) / (guided.mean() - plain.mean()) < 0.5, "less than half of the gain"


def test_what_changes_is_the_negative_embedding_and_not_the_prompts(chapter) -> None:
    """Both from one seed: the prompt's embedding stays; guidance leads away from another image with each seed."""
    kandinsky, cosine = chapter.kandinsky, torch.nn.functional.cosine_similarity
    against = {"negative_prompt": chapter.negative_prompt}
    plain, both = (
        [kandinsky.prior_pipe(GUIDE, generator=seed(number), **more).to_tuple() for number in SEEDS]
        for more in ({}, against)
    )
    assert min(cosine(one[0], other[0]) for one, other in zip(plain, both, strict=True)) > 0.95
    assert all(torch.equal(one[1], plain[0][1]) for one in plain)
    assert mean(float(cosine(both[number][1], both[number - 1][1])) for number in SEEDS) < 0.5
    apart = [answers_apart(chapter, plain[0][0], negative) for negative in (plain[0][1], both[0][1])]
    assert apart[1] > 1.3 * apart[0]


def answers_apart(chapter, image_embeds, negative_image_embeds) -> float:
    """How far the UNet's two answers lie apart in a call that guidance does not move, over one of them; a mean."""
    size, found, decoder = CATALOG["kandinsky22-inpaint"].size, [], chapter.kandinsky.decoder_pipe

    def note(unet, args, output) -> None:
        without, prompted = (output[0] if isinstance(output, tuple) else output.sample)[:, :4].chunk(2)
        found.append(float((prompted - without).norm() / prompted.norm()))

    hook = decoder.unet.register_forward_hook(note)
    try:
        decoder(
            image_embeds=image_embeds, negative_image_embeds=negative_image_embeds, **chapter.pair, height=size,
            width=size, num_inference_steps=10, guidance_scale=1.0001, generator=seed(0),
        )  # fmt: skip
    finally:
        hook.remove()
    return mean(found)


def test_kandinsky_would_paint_512_pixels_in_100_steps() -> None:
    from diffusers import KandinskyV22InpaintCombinedPipeline

    known = inspect.signature(KandinskyV22InpaintCombinedPipeline.__call__).parameters
    assert [known[name].default for name in ("height", "width", "num_inference_steps")] == [512, 512, 100]


def test_one_seed_makes_two_cats(guides_cats, cats, meadow) -> None:
    """As far apart as two seeds of one model, not as near as one seed twice."""
    image, mask = meadow
    apart = mean(
        change(cat, one.resize(image.size), mask).inside for cat, one in zip(cats, guides_cats[0], strict=True)
    )
    assert apart > 0.5 * mean(change(cats[0], cat, mask).inside for cat in cats[1:])


# The mask, and what is kept


def test_most_of_the_change_is_inside_the_mask(cats, meadow) -> None:
    image, mask = meadow
    moved = [change(image, cat, mask) for cat in cats]
    assert mean(one.inside for one in moved) > 3 * mean(one.outside for one in moved)


def test_the_vae_changes_kept_pixels_and_the_unet_adds_to_it(chapter, cats, meadow) -> None:
    image, mask = meadow
    alone, inpainted = change(image, chapter.back, mask).outside, mean(change(image, cat, mask).outside for cat in cats)
    assert alone > 0.2
    assert inpainted > 0.8 * alone
    assert chapter.latents.shape[-1] * 8 == image.width


def test_keep_unmasked_is_apply_overlay_and_exact(pipe, cats, meadow) -> None:
    image, mask = meadow
    kept = keep_unmasked(image, cats[0], mask)
    assert change(image, kept, mask).outside == 0
    assert kept.tobytes() == pipe.image_processor.apply_overlay(mask, image, cats[0]).tobytes()


# Prompts


def test_each_prompt_is_recognised_in_its_own_picture(paint) -> None:
    prompts = ["a black cat", "a red boat", "a white castle"]
    pictures = {prompt: [paint(prompt, number) for number in SEEDS] for prompt in prompts}
    for asked in prompts:
        others = [mean(adherence(pictures[other], asked)) for other in prompts if other != asked]
        assert mean(adherence(pictures[asked], asked)) > max(others) + 0.1, asked


def test_an_empty_negative_prompt_is_none(chapter) -> None:
    assert chapter.none.tobytes() == chapter.empty.tobytes() != chapter.away.tobytes()


def test_a_negative_prompt_pushes_away_from_what_it_means(paint) -> None:
    from helpers.analysis import scene_classifier

    def colours(**more) -> list[dict[str, float]]:
        return [one["colour"] for one in scene_classifier.read([paint("a cat", n, **more) for n in range(8)])]

    plain = colours()
    for word in ("white", "orange"):
        assert mean(one[word] for one in colours(negative_prompt=word)) < 0.05, word
        assert mean(one[word] for one in plain) > 0.15, word


def test_a_negative_prompt_acts_only_through_guidance(chapter, paint, meadow) -> None:
    _, mask = meadow
    words = "bad anatomy, deformed, ugly, disfigured"
    pushed = mean(
        change(paint("a black cat", n), paint("a black cat", n, negative_prompt=words), mask).inside for n in SEEDS
    )
    assert pushed > 1
    assert chapter.negative_prompt == words
    assert chapter.without.tobytes() == chapter.with_it.tobytes()


# Seeds and steps


def test_a_seed_repeats_and_a_used_generator_does_not(chapter, meadow) -> None:
    assert chapter.first.tobytes() == chapter.third.tobytes()
    assert change(chapter.first, chapter.second, meadow[1]).inside > 1


def test_seeds_give_different_pictures(chapter, meadow) -> None:
    first, *others = chapter.cats
    assert min(change(first, cat, meadow[1]).inside for cat in others) > 1


def test_more_steps_settle(chapter, paint, meadow) -> None:
    counts = (1, 6, 25, 50)
    by_steps = {
        n: [chapter.by_steps[n], *(paint("a black cat", s, num_inference_steps=n) for s in SEEDS[1:])] for n in counts
    }
    gaps = {
        n: mean(change(last, one, meadow[1]).inside for last, one in zip(by_steps[50], by_steps[n], strict=True))
        for n in counts
    }
    assert gaps[1] > gaps[6] > gaps[25] > gaps[50] == 0
    assert gaps[25] < gaps[1] / 3


# Image-to-image and text-to-image


def test_more_strength_moves_further_from_the_picture(img2img) -> None:
    start, strengths = load_image("winter"), (0.2, 0.5, 0.8, 1.0)
    away = [
        mean(
            change(
                start,
                img2img(
                    "a castle at night", start, strength=one, num_inference_steps=STEPS, generator=seed(number)
                ).images[0],
            ).inside
            for number in SEEDS
        )
        for one in strengths
    ]
    assert away == sorted(away)
    assert away[-1] > 1.6 * away[0]


def test_image_to_image_at_full_strength_still_sees_the_image(chapter, img2img) -> None:
    """A tenth of the amplitude is left; what starts as pure noise does not depend on the image at all."""
    start, t = load_image("winter"), int(chapter.starts)
    assert 900 < t < 999 and 0.08 < float(chapter.left) < 0.11
    assert f"t = {t}, where {float(chapter.left):.1%} of" in chapter.printed
    call = {"strength": 1.0, "num_inference_steps": STEPS}
    dark, light = (load_image(name) for name in ("winter", "seashore"))
    apart, nearer = [], []
    for number in SEEDS:
        made = [img2img("a castle at night", one, **call, generator=seed(number)).images[0] for one in (dark, light)]
        apart.append(change(*made).inside)
        nearer.append(change(start, made[1]).inside - change(start, made[0]).inside)
    assert mean(apart) > 8 and mean(nearer) > 0


def test_inpainting_at_full_strength_starts_from_pure_noise() -> None:
    from PIL import Image

    regular, (one, other) = quiet("sd15", task="inpaint"), (load_image("winter"), load_image("seashore"))
    call = {"mask_image": Image.new("L", one.size, 255), "num_inference_steps": 4}

    def made(image, strength):
        return regular("a castle", image, strength=strength, **call, generator=seed(0)).images[0]

    assert change(made(one, 1.0), made(other, 1.0)).inside < 0.5 < change(made(one, 0.8), made(other, 0.8)).inside


def test_strength_decides_how_many_steps_run(chapter) -> None:
    assert [chapter.ran.count(strength) for strength in (0.2, 0.5, 0.8, 1.0)] == [5, 12, 20, 25]
    ran: list[int] = []
    call = {"strength": 0.7, "num_inference_steps": 25}
    chapter.img2img(
        "a castle", chapter.start, **call, callback_on_step_end=lambda pipe, step, *_: ran.append(step) or {}
    )
    assert len(ran) == int(0.7 * 25) and chapter_01.steps_that_run(len(ran)) is None
    assert type(chapter.img2img.scheduler).__name__ != "PNDMScheduler"  # which would run one more


def test_less_than_one_step_raises_but_only_inpainting_says_why(paint, img2img) -> None:
    with pytest.raises(ValueError, match="strength"):
        paint("a castle", strength=0.03, num_inference_steps=25)
    with pytest.raises(RuntimeError, match="stack expects a non-empty TensorList"):
        img2img("a castle", load_image("winter"), strength=0.03, num_inference_steps=25)


def test_three_tasks_keep_more_and_more(pipe, img2img) -> None:
    text2img = quiet("sd15")
    start, house, words = load_image("winter"), load_mask("winter"), "a red castle"
    outside = {"text": [], "image": [], "inpaint": []}
    for number in SEEDS:
        more = {"num_inference_steps": STEPS}
        made = {
            "text": text2img(words, generator=seed(number), **more),
            "image": img2img(words, start, strength=0.8, generator=seed(number), **more),
            "inpaint": pipe(words, start, house, generator=seed(number), **more),
        }
        for task, output in made.items():
            outside[task].append(change(start, output.images[0], house).outside)
    text, image, inpaint = (mean(values) for values in outside.values())
    assert text > 1.3 * image and image > 1.2 * inpaint
    assert text2img.unet is img2img.unet and text2img.vae is pipe.vae
