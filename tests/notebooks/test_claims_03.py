"""What chapter 03 claims, on the miniatures: its own cells are run here once, and measured over several seeds."""

from __future__ import annotations

import functools
import itertools
import re

import numpy as np
import pytest
from PIL import Image

from helpers import CATALOG, adherence, change, load_image, models, sharpness, sweep
from helpers.analysis import scene_classifier
from helpers.cli import notebook_runner
from tests.notebooks.running import cells, mean, prose, visited

CHAPTER = notebook_runner.NOTEBOOKS / "03_popular_models.ipynb"
SOLUTIONS = notebook_runner.NOTEBOOKS / "solutions" / "03_popular_models.ipynb"
SD, SDXL, KANDINSKY = "sd15-inpaint", "sdxl-inpaint", "kandinsky22-inpaint"
SEEDS = range(4)


@pytest.fixture(scope="module")
def chapter():
    """What its cells made."""
    return visited(CHAPTER)


@pytest.fixture(scope="module")
def imagine(chapter):
    """The prior's embeddings for a prompt and a seed, made once."""
    return functools.cache(chapter.imagine)


# The catalogue


def test_the_first_table_says_what_the_text_says_of_it():
    table = models(SD, SDXL, KANDINSKY)
    shown = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert max(shown, key=lambda name: float(shown[name]["download"].removesuffix(" GB"))) == KANDINSKY
    memory = {name: [float(way) for way in re.findall(r"[\d.]+", row["GPU memory"])] for name, row in shown.items()}
    assert max(memory, key=lambda name: memory[name][0]) == KANDINSKY
    assert max(memory, key=lambda name: memory[name][0] / memory[name][1]) == KANDINSKY
    assert max(CATALOG[KANDINSKY].parameters.values()) < CATALOG[SDXL].parameters["unet"]
    assert [name for name, row in shown.items() if "openrail" in row["licence"]] == [SD, SDXL]
    assert shown[KANDINSKY]["licence"] == "apache-2.0"


def test_the_table_of_choices_agrees_with_the_catalogue(chapter):
    assert min(map(CATALOG.get, chapter.names), key=lambda one: one.download_size).name == SD
    assert CATALOG[SDXL].full_size ** 2 == 4 * CATALOG[SD].full_size ** 2
    halves = {True: 0, False: 0}
    for part, millions in CATALOG[KANDINSKY].parameters.items():
        halves[part.startswith("prior_")] += millions
    assert halves[True] > 2 * halves[False]  # the prior is the heavier half


# One task for three


@pytest.mark.parametrize("name", [SD, SDXL, KANDINSKY])
def test_all_three_paint_what_the_prompt_names(chapter, name):
    asked = ["a black cat", *chapter.prompts]
    for number, words in enumerate(asked):
        more = [chapter.paint(name, words, seed) for seed in (1, 2)]
        first = chapter.cats[name][0] if number == 0 else chapter.others[name][number - 1]
        assert mean(adherence(one, words) for one in [first, *more]) > 0.5, words


def test_each_paints_in_its_own_size(chapter):
    assert {name: ones[0].size for name, ones in chapter.cats.items()} == {
        name: (CATALOG[name].size,) * 2 for name in chapter.names
    }
    assert CATALOG[SDXL].size > CATALOG[SD].size


def test_equal_seeds_make_no_pictures_alike(chapter):
    mask = chapter.inputs(SD)["mask_image"]
    cats = {name: [one.resize(mask.size) for one in ones] for name, ones in chapter.cats.items()}
    for a, b in ((SD, SDXL), (SD, KANDINSKY), (SDXL, KANDINSKY)):
        apart = np.array([[change(one, other, mask).inside for other in cats[b]] for one in cats[a]])
        assert apart.diagonal().mean() > 0.7 * apart[~np.eye(3, dtype=bool)].mean()


# The judge


def test_the_judges_floor_is_half_for_a_spot_of_the_right_colour(chapter):
    seen = chapter.names_after["floor"]
    meadow, spot = seen.images["the meadow"], seen.images["a black spot"]
    assert adherence(meadow, "a black cat") < 0.1 and 0.4 < adherence(spot, "a black cat") < 0.6
    assert adherence(spot, "a cat") < 0.1
    for words in chapter.prompts:
        spot = Image.composite(Image.new("RGB", meadow.size, words.split()[1]), meadow, seen.mask)
        assert adherence(meadow, words) < 0.1 and 0.35 < adherence(spot, words) < 0.6


def test_a_top_score_says_nothing_of_quality(chapter):
    seen = chapter.names_after["floor"]
    for what in ("sdxl-inpaint in squares", "kandinsky22-inpaint in squares"):
        assert adherence(seen.images[what], "a black cat") > 0.9, what
    assert len(seen.images["sdxl-inpaint in squares"].getcolors()) <= 16 * 16
    squares = [
        one.resize((16, 16), Image.Resampling.BOX).resize(one.size, Image.Resampling.NEAREST)
        for name in (SDXL, KANDINSKY)
        for one in chapter.cats[name]
    ]
    assert mean(adherence(squares, "a black cat")) > 0.9
    assert scene_classifier.SIZE == 64
    _, heads = scene_classifier.load(scene_classifier.folder())
    assert len(heads["subject"]) == 11 and "nothing" in heads["subject"]


def test_the_judge_tells_when_a_prompt_was_ignored(chapter):
    things = ["a cat", "a boat", "a castle", "a house"]
    for name in chapter.names:
        for thing, one in zip(things, [chapter.cats[name][0], *chapter.others[name]], strict=True):
            assert max(adherence(one, other) for other in things if other != thing) < 0.5, (name, thing)


# The guide's own castle


def test_the_guides_castle_is_painted_word_for_word_by_all_three(chapter):
    assert 'paint(name, elven, 92, **inputs(name, "castle"))' in cells(CHAPTER)["guide-castle"]
    assert chapter.elven == (
        "concept art digital painting of an elven castle, inspired by lord of the rings, highly detailed, 8k"
    )
    for name, castle in chapter.castles.items():
        assert adherence(castle, "a castle in a meadow, day") > 0.7, name


def test_the_three_castles_have_their_place_in_common_and_not_their_walls(chapter):
    mask = chapter.inputs(SD, "castle")["mask_image"]
    castles = [castle.resize(mask.size) for castle in chapter.castles.values()]
    for one, other in itertools.combinations(castles, 2):
        apart = change(one, other, mask)
        assert apart.inside > 25 and apart.inside > 2 * apart.outside


# Inside


def test_the_parts_are_those_that_the_text_names(chapter):
    assert [hasattr(pipe, "text_encoder") for pipe in chapter.pipes.values()] == [True, True, False]
    assert [hasattr(pipe, "text_encoder_2") for pipe in chapter.pipes.values()] == [False, True, False]
    assert hasattr(chapter.kandinsky, "prior_text_encoder") and hasattr(chapter.kandinsky, "movq")
    assert chapter.said_by["parts"].count("UNet with 9 channels in") == 3
    assert chapter.sdxl.unet.config.cross_attention_dim > chapter.sd.unet.config.cross_attention_dim
    side = chapter.house.width // 8
    assert {tuple(one.shape) for one in chapter.latents.values()} == {(1, 4, side, side)}


def test_another_models_latents_are_ruined_and_nothing_says_so(chapter):
    off = {pair: change(chapter.house, one).inside for pair, one in chapter.decoded.items()}
    own = {a: error for (a, b), error in off.items() if a == b}
    for (a, b), error in off.items():
        assert a == b or error > 3 * max(own[a], own[b]), (a, b)
    assert len({CATALOG[name].latent_space for name in chapter.names}) == 3


def test_prompts_become_tensors_of_three_kinds(chapter):
    assert chapter.states.shape == (1, 77, chapter.sd.unet.config.cross_attention_dim)
    assert chapter.both.shape == (1, 77, chapter.sdxl.unet.config.cross_attention_dim)
    widths = [one.config.hidden_size for one in (chapter.sdxl.text_encoder, chapter.sdxl.text_encoder_2)]
    assert chapter.both.shape[2] == sum(widths)
    assert chapter.pooled.shape == (1, chapter.sdxl.text_encoder_2.config.projection_dim)
    assert chapter.image_embeds.shape == (1, chapter.kandinsky.prior_image_encoder.config.projection_dim)


# The calls


def test_the_signatures_are_those_that_the_text_reads_from_them(chapter):
    table = {line.split()[0]: line.split()[1:] for line in chapter.said_by["call"].splitlines()[1:]}
    assert table["strength"] == ["1.0", "0.9999", "–"]
    assert table["padding_mask_crop"] == ["None", "None", "–"]
    assert table["guidance_scale"] == ["7.5", "7.5", "4.0"]
    assert (table["num_inference_steps"][2], table["height"][2]) == ("100", "512")
    assert table["original_size"] == ["–", "None", "–"]
    assert table["prior_num_inference_steps"] == ["–", "–", "25"]


def test_sdxl_skips_the_first_step_by_default(chapter):
    ran = []

    def note(pipe, step, timestep, tensors):
        ran.append(step)
        return tensors

    chapter.paint(SDXL, "a cat", callback_on_step_end=note)
    assert len(ran) == int(25 * 0.9999) == 24


def test_unknown_arguments_are_swallowed_but_not_by_sweep(chapter):
    assert chapter.said_by["swallowed"].count("True") == 2
    for name, wrong in ((KANDINSKY, "strength"), (SD, "strenght")):
        with pytest.raises(TypeError, match=wrong):
            next(sweep(chapter.pipes[name], over={wrong: [0.3]}, prompt="a cat", **chapter.inputs(name)))


def test_kandinsky_alone_paints_512_and_wants_multiples_of_64(chapter):
    said = chapter.said_by["size"].splitlines()
    for name, first, second in zip(chapter.names, said[::2], said[1::2], strict=True):
        size = CATALOG[name].size
        wanted = (512, 512) if name == KANDINSKY else (size, size)
        assert first.startswith(name) and first.endswith(str(wanted))
        odd = size + 32
        assert odd % 64 and second.strip().startswith(f"asked for {odd}: ")
        assert ("Sizes of tensors must match" in second) is (name == KANDINSKY)
        assert second.endswith(str((odd, odd))) is (name != KANDINSKY)


def test_sdxl_is_led_toward_small_originals_and_away_from_them(chapter):
    def inside(ones) -> float:
        return mean(sharpness(one.crop(chapter.box)) for one in ones)

    plain, toward, away = map(inside, chapter.drawn.values())
    assert toward < 0.75 * plain and away > 1.2 * plain
    alone = [chapter.paint(SDXL, "a white castle", number, original_size=chapter.small) for number in range(2)]
    assert toward < 0.85 * inside(alone) < 1.2 * plain  # said in both questions, it does little


def test_kandinsky_puts_back_what_the_others_copy(chapter):
    found = re.findall(r"round trip +([\d.]+) +inpainting +([\d.]+)", chapter.said_by["kept"])
    times = [float(inpainted) / float(alone) for alone, inpainted in found]
    assert times[2] < 1.2 < min(times[:2])


def test_kandinsky_grows_the_mask_by_one_latent(chapter):
    given = chapter.inputs(KANDINSKY)
    seen = []

    def note(pipe, step, timestep, tensors):
        seen.append(tensors["mask_image"][0, 0].numpy() == 0)  # 1 is kept
        return tensors

    wanted = {"callback_on_step_end": note, "callback_on_step_end_tensor_inputs": ["mask_image"]}
    chapter.paint(KANDINSKY, "a cat", num_inference_steps=2, **wanted)
    white = np.asarray(given["mask_image"])[::8, ::8] >= 128  # as the pipeline reduces it, by the nearest pixel
    padded, side = np.pad(white, 1), len(white)
    around = [(y, x) for y in range(3) for x in range(3) if abs(y - x) < 2]  # all neighbours but two corners
    grown = np.any([padded[y : y + side, x : x + side] for y, x in around], axis=0)
    assert np.array_equal(seen[0], grown) and grown.sum() > white.sum()


# Kandinsky apart


def test_two_steps_make_the_combined_pipelines_picture(chapter):
    assert "bit for bit the same: True" in chapter.said_by["apart"]
    assert chapter.prior.prior is chapter.kandinsky.prior_prior and chapter.decoder.unet is chapter.kandinsky.unet


def test_the_decoder_alone_loads_as_the_box_says(chapter):
    decoder = chapter.KandinskyV22InpaintPipeline.from_pretrained(CATALOG[KANDINSKY].source)
    decoder.set_progress_bar_config(disable=True)
    embeds = dict(zip(("image_embeds", "negative_image_embeds"), chapter.imagine("a house"), strict=True))
    alone = decoder(**embeds, **chapter.given, generator=chapter.seed(0)).images[0]
    assert change(alone, chapter.rows["decoder's seed"][0]).inside < 1
    assert CATALOG[KANDINSKY].prior == "kandinsky-community/kandinsky-2-2-prior"


def test_the_priors_guidance_trades_variety_for_certainty(chapter, imagine):
    mask = chapter.given["mask_image"]

    def apart(ones) -> float:
        return mean(change(a, b, mask).inside for a, b in itertools.combinations(ones, 2))

    decoders, guided, unguided = map(apart, chapter.rows.values())
    assert guided < 0.7 * min(decoders, unguided)

    def agree(**more) -> float:
        found = [imagine("a black cat", n, **more)[0] for n in SEEDS]
        return mean(chapter.cosine(a, b) for a, b in itertools.combinations(found, 2))

    assert agree() > 0.97 > agree(guidance_scale=1.0) + 0.02


def test_embeddings_are_ordered_by_what_they_mean(chapter, imagine):
    def cosines(words):
        pairs = [(imagine("a black cat", n)[0], imagine(words, n + 4)[0]) for n in SEEDS]
        return mean(chapter.cosine(*pair) for pair in pairs)

    seed, colour, thing = cosines("a black cat"), cosines("a white cat"), cosines("a red boat")
    assert seed > colour + 0.03 and seed > thing + 0.1
    nothing = imagine("a black cat", 0)[1]
    assert seed > mean(chapter.cosine(imagine("a black cat", n)[0], nothing) for n in SEEDS) + 0.1
    assert "is the same for every prompt: True" in chapter.said_by["cosines"]


def test_a_negative_prompt_becomes_an_embedding_and_acts(chapter):
    assert "is another one: True" in chapter.said_by["negative"]

    def red(**more) -> float:
        found = [chapter.develop(chapter.imagine("a red house", n, **more), n) for n in SEEDS]
        return mean(one["colour"]["red"] for one in scene_classifier.read(found))

    assert red(negative_prompt="red") < red() - 0.3


def test_mixtures_go_from_one_prompt_to_the_other(chapter):
    first, last = chapter.way[0], chapter.way[-1]
    assert adherence(first, "a red boat") > 0.5 > adherence(last, "a boat")
    assert adherence(last, "a white castle") > 0.5 > adherence(first, "a castle")


def test_a_picture_can_take_the_place_of_a_prompt(chapter):
    drawn = [chapter.develop(chapter.alone, n) for n in SEEDS]
    before = adherence(chapter.inputs(KANDINSKY)["image"], "a lighthouse")
    assert mean(adherence(one, "a lighthouse") for one in drawn) > before + 0.3


# How much picture, how much word


def test_the_mix_leads_from_the_picture_to_the_words(chapter):
    assert chapter.alike[0] == pytest.approx(1, abs=1e-3) and chapter.alike == sorted(chapter.alike, reverse=True)
    seen = {thing: [np.mean(adherence(ones, thing)) for ones in chapter.by_share] for thing in ("lighthouse", "boat")}
    assert seen["lighthouse"][0] > 0.8 > 0.2 > seen["lighthouse"][-1]
    assert seen["boat"][-1] > 0.8 > 0.2 > seen["boat"][0]
    halfway = sum(0.3 < value < 0.7 for value in seen["lighthouse"])
    assert halfway <= 1  # it switches


def test_close_to_the_switch_the_seed_decides(chapter):
    image_embeds, negative_image_embeds = chapter.prior.interpolate(
        [chapter.light, "a red boat"], [0.57, 0.43], generator=chapter.seed(0)
    ).to_tuple()
    many = {"image_embeds": image_embeds.repeat(16, 1), "negative_image_embeds": negative_image_embeds.repeat(16, 1)}
    many |= {key: [chapter.given[key]] * 16 for key in ("image", "mask_image")}
    call = chapter.given | many | {"num_inference_steps": 15, "generator": [chapter.seed(n) for n in range(16)]}
    images = chapter.decoder(**call).images
    lighthouse, boat = (np.array(adherence(images, thing)) > 0.7 for thing in ("a lighthouse", "a boat"))
    assert min(lighthouse.sum(), boat.sum()) >= 3
    assert (lighthouse ^ boat).sum() >= 12


def test_the_adapter_that_is_named_is_an_argument_of_the_others_and_not_of_kandinsky(chapter):
    for name in (SD, SDXL):
        assert hasattr(chapter.pipes[name], "load_ip_adapter") and hasattr(chapter.pipes[name], "set_ip_adapter_scale")
        assert "ip_adapter_image" in chapter.inspect.signature(chapter.pipes[name].__call__).parameters
    assert not hasattr(chapter.pipes[KANDINSKY], "load_ip_adapter")


# Time, and what it depends on


def test_sdxls_pixels_arithmetic_and_layers_are_as_the_text_says(chapter):
    pixels, parameters, arithmetic, layers = chapter.ratios
    text = prose(CHAPTER)
    assert pixels == 2.25 and "which is 2.25 times as many" in text
    assert round(parameters, 1) == 0.4 and "two fifths of the numbers" in text
    assert f"is {arithmetic:.1f} times Stable Diffusion's, not 2.25 times" in text
    assert round(1 - layers, 1) == 0.3 and "has 30 % fewer layers" in text
    full = [CATALOG[name].parameters["unet"] for name in (SD, SDXL)]
    assert 2.5 < full[1] / full[0] < 3.5


# Two stages


def test_the_base_takes_80_percent_of_the_steps_and_the_refiner_the_rest(chapter):
    assert "steps: 32 by the base, 8 by the refiner" in chapter.said_by["two-stages"]
    assert CATALOG["sdxl-refiner"].latent_space == CATALOG[SDXL].latent_space
    assert "03" in CATALOG["sdxl-refiner"].chapters


def staged(chapter, number, **more):
    """The base alone, and the base with the refiner, in 12 steps."""
    call = chapter.call | {"num_inference_steps": 12}
    base = chapter.sdxl(**call, **chapter.from_words | more, generator=chapter.seed(number)).images[0]
    half = {"denoising_end": 0.8, "output_type": "latent", "generator": chapter.seed(number)}
    latents = chapter.sdxl(**call, **chapter.from_words | more, **half).images
    end = {"image": latents, "denoising_start": 0.8, "generator": chapter.seed(number)}
    return base, chapter.refiner(**call, **end).images[0]


def test_the_refiner_changes_much_less_than_another_seed(chapter):
    pairs = [staged(chapter, number) for number in range(3)]
    refined = mean(change(*pair).inside for pair in pairs)
    seeds = mean(change(one[0], other[0]).inside for one, other in itertools.combinations(pairs, 2))
    assert 2 < refined < seeds / 2
    assert 2 < change(chapter.base_alone, chapter.refined).inside < seeds / 2
    assert round(change(chapter.base_alone, chapter.refined).inside, -1) == 10


def test_inpainting_works_the_same_way_and_the_refiner_treats_the_whole_image(chapter):
    given = chapter.inputs(SDXL, "castle")
    image, mask = given["image"], given["mask_image"]
    call = {"prompt": chapter.elven, "num_inference_steps": 12}
    alone = chapter.sdxl(**call, **given, generator=chapter.seed(92)).images[0]
    half = {"denoising_end": 0.8, "output_type": "latent", "generator": chapter.seed(92)}
    latents = chapter.sdxl(**call, **given, **half).images
    refined = chapter.refiner(**call, image=latents, denoising_start=0.8, generator=chapter.seed(92)).images[0]
    assert adherence(refined, "a castle in a meadow") > 0.7
    assert change(alone, refined).inside < 15 < change(image, refined, mask).inside
    assert change(image, refined, mask).outside > 2


def test_at_full_strength_nothing_of_the_placeholder_comes_through_and_by_default_its_black_does(chapter):
    def base(image, **more):
        call = chapter.call | chapter.from_words | {"num_inference_steps": 12, "image": image} | more
        return [chapter.sdxl(**call, generator=chapter.seed(number)).images[0] for number in range(2)]

    black, white = (Image.new("RGB", (chapter.side, chapter.side), colour) for colour in ("black", "white"))
    full = base(black)
    assert [one.tobytes() for one in full] == [one.tobytes() for one in base(white)]
    default = base(black, strength=0.9999)
    assert mean(np.asarray(one).mean() for one in default) < 0.6 * mean(np.asarray(one).mean() for one in full)


# The exercises


def test_the_chapters_exercises_are_open(chapter):
    told = [chapter.displayed[f"exercise-{number}"] for number in range(1, 5)]
    assert [result.passed for result in told] == [False] * 4
    assert "is named" in told[0].message
    assert all("No answer yet" in result.message for result in told[1:])


def test_the_picture_of_the_chapter_is_the_courses_own(chapter):
    size = CATALOG[SD].size
    assert chapter.inputs(SD)["image"].tobytes() == load_image("meadow", size=size).tobytes()
