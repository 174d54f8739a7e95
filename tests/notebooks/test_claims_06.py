"""What chapter 06 claims, on the miniatures: its own cells are run here, their images measured over several seeds."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from helpers import CATALOG, adherence, change, load_image
from helpers.analysis.image_metrics import seam, sharpness
from helpers.cli import notebook_runner
from helpers.images.masks import fit
from tests.notebooks.running import mean, visited

CHAPTER = notebook_runner.NOTEBOOKS / "06_chaining.ipynb"
SOLUTIONS = notebook_runner.NOTEBOOKS / "solutions" / "06_chaining.ipynb"


@pytest.fixture(scope="module")
def chapter():
    """What its cells made."""
    return visited(CHAPTER)


# Words, a picture, a hole


def test_the_waterfall_stays_in_its_mask(chapter):
    at = chapter.names_after["waterfall"]
    moved = change(at.castle, fit(at.filled.images[0], at.castle), at.painter.mask)
    assert moved.inside > 15
    assert 0 < moved.outside < moved.inside / 2


def test_the_prompt_decides_what_kandinsky_paints_there(chapter):
    at, apart = chapter.names_after["waterfall"], []
    for number in range(3):
        call = {"image": at.image, **at.call, "num_inference_steps": 25}
        one, other = (
            at.kandinsky(prompt, **call, generator=at.seed(number)).images[0] for prompt in (at.fantasy, "a red boat")
        )
        apart.append(change(fit(one, at.castle), fit(other, at.castle), at.painter.mask))
    assert mean(one.inside for one in apart) > 2 * mean(one.outside for one in apart)


# Why not in latents


def test_the_refusal_names_both_reasons(chapter):
    said = chapter.said_by["refused"]
    assert "it sends every image through its encoder" in said and "different autoencoders" in said


def test_the_wrong_decoder_makes_nothing_of_them(chapter):
    at = chapter.names_after["decoders"]
    assert change(at.decode(at.text2image, at.latents.images), at.castle).inside < 1
    assert change(at.wrong, at.castle).inside > 25


def test_a_chain_over_families_keeps_the_layout(chapter):
    """Four of Kandinsky's images are nearer to those they come from than to the other three, also in the large."""

    def large(image):
        values = np.asarray(image.convert("L").resize((16, 16)), float)
        return (values - values.mean()) / values.std()

    at = chapter.names_after["families"]
    firsts = [at.text2image(at.muted, generator=at.seed(number), **at.steps).images[0] for number in range(4)]
    seconds = [at.kandinsky_i2i(at.muted, image=one, generator=at.seed(0), **at.call).images[0] for one in firsts]
    seconds = [fit(second, firsts[0]) for second in seconds]
    assert change(seconds[0], fit(at.second.images[0], firsts[0])).inside < 1
    apart = np.array([[change(first, second).inside for second in seconds] for first in firsts])
    alike = np.array([[(large(first) * large(second)).mean() for second in seconds] for first in firsts])
    own = np.eye(4, dtype=bool)
    assert apart[own].mean() < 0.85 * apart[~own].mean()
    assert alike[own].mean() > alike[~own].mean() + 0.15


# Round trips


def test_the_first_round_trip_takes_most_and_none_gives_back(chapter):
    losses = chapter.losses
    steps = [one - other for one, other in zip(losses, losses[1:], strict=False)]
    assert all(step > -0.05 for step in steps)
    assert losses[-1] < losses[0] - 2
    errors = [10 ** (-loss / 20) for loss in losses]
    assert errors[0] > max(one - other for one, other in zip(errors[1:], errors, strict=False))


def test_every_picture_loses(chapter):
    for name in ("castle", "seashore", "lighthouse"):
        picture = load_image(name)
        once = chapter.decode(chapter.image2image, chapter.encode(chapter.image2image, picture))
        assert 20 < chapter.psnr(picture, once) < 45


# Latents all the way


def test_three_round_trips_against_one(chapter):
    assert chapter.counts["pil"][0] == {"encoder": 3, "decoder": 3}
    assert chapter.counts["latent"][0] == {"encoder": 1, "decoder": 1}


def test_all_stages_share_one_latent_space(chapter):
    assert {CATALOG[name].latent_space for name in ("sd15", "comic", "pixel-art")} == {"sd15"}


def test_each_stage_changes_the_picture(chapter):
    row = [chapter.jungle, *chapter.looked_at, *chapter.in_latents[2]]
    assert min(change(one, other).inside for one, other in zip(row, row[1:], strict=False)) > 3


def test_the_astronaut_stays_one(chapter):
    assert adherence(chapter.looked_at[0], "an astronaut") > 0.5


def test_the_token_calls_the_style(chapter):
    """A comic's page has a rim of white paper; a castle under a sky has none."""

    def rim(picture):
        return np.asarray(picture, float)[[0, 1, -2, -1]].min(axis=2).mean()

    assert min(map(rim, chapter.called)) > 190 > 150 > max(map(rim, chapter.uncalled))
    for sd15, uncalled, called in zip(chapter.plain, chapter.uncalled, chapter.called, strict=True):
        assert 10 < change(sd15, uncalled).inside < 0.8 * change(sd15, called).inside, "nearer to sd15, not the same"
    apart = [change(one, other).inside for one, other in zip(chapter.plain, chapter.uncalled, strict=True)]
    assert 0.4 * mean(chapter.near) < mean(apart) < 0.7 * mean(chapter.near), "half as far as another seed"
    for picture in chapter.called + chapter.uncalled:
        assert adherence(picture, "a castle") > 0.5


def test_the_costs_compare_the_two_ways(chapter):
    assert list(chapter.costs) == ["images in between", "latents"]
    assert chapter.costs["latents"].result[2][0].size == chapter.jungle.size


# A walk


def test_small_steps_lead_far_and_do_not_add_up(chapter):
    assert len(chapter.frames) == 13
    assert chapter.begun[-1] > 2 * mean(chapter.moved)
    assert chapter.begun[-1] < 0.75 * sum(chapter.moved)


def test_each_act_arrives(chapter):
    for number, seen in ((4, "at sunset"), (8, "desert"), (12, "a red castle")):
        assert adherence(chapter.frames[number], seen) > 0.6, seen
        assert adherence(chapter.frames[0], seen) < 0.6, seen


def test_the_film_is_a_gif_of_all_frames(chapter):
    film = Image.open(io.BytesIO(chapter.displayed["film"].data))
    assert film.format == "GIF" and film.n_frames == 2 * len(chapter.frames) - 2
    assert len(chapter.displayed["film"].data) < 2**20


# Colours back


def test_strength_brings_colours_back(chapter):
    at = chapter.names_after["colours"]
    by = {value: [] for value in at.over["strength"]}
    for record in at.restored:
        by[record.parameters["strength"]].append(record)
    faded, original = at.colourfulness(at.faded), at.colourfulness(at.sea)
    assert faded < original / 2
    found = [mean(map(at.saturation, records)) for records in by.values()]
    back = list(by).index(0.8)
    assert faded + 5 < found[0] < original / 2, "a little strength, a little of the colours"
    assert found[: back + 1] == sorted(found[: back + 1]) and found[back] > 0.9 * original, "all there"
    away = [mean(map(at.distance_from_the_original, records)) for records in by.values()]
    faded_away, nearest = change(at.sea, at.faded).inside, min(away)
    assert 3 < nearest < 0.8 * faded_away
    assert away.index(nearest) == back, "the distance falls while the colours return, and then rises"
    assert away[-1] > nearest + 3


def test_gentle_calls_add_up(chapter):
    at = chapter.names_after["gently"]
    found = [at.colourfulness(one) for one in (at.faded, *at.gentle)]
    assert found[-1] > found[1] > found[0]


# Pale after many edits


def test_matching_brings_contrast_and_colours_back_and_no_detail(chapter):
    def contrast(image):
        return np.asarray(image.convert("L"), float).std()

    original, edited, matched = chapter.original, chapter.edited, chapter.matched
    assert contrast(edited) < contrast(original) - 2
    assert abs(contrast(matched) - contrast(original)) < 0.3 * abs(contrast(edited) - contrast(original))
    assert change(original, matched).inside < 0.9 * change(original, edited).inside
    assert sharpness(edited) < sharpness(original)
    by_contrast = (contrast(matched) / contrast(edited)) ** 2
    assert 0.9 < sharpness(matched) / sharpness(edited) / by_contrast < 1.1, "nothing but the contrast"


def test_matching_an_image_to_itself_changes_nothing_much_and_a_shift_is_undone(chapter):
    original = chapter.original
    assert change(original, chapter.match_colours(original, original)).inside < 1
    pale = Image.fromarray((np.asarray(original) * 0.6 + 80).round().astype("uint8"))
    assert change(original, chapter.match_colours(pale, original)).inside < 2 < change(original, pale).inside / 5


# Inpaint, refine


def test_refining_draws_edges_anew(chapter):
    at = chapter.names_after["refine-again"]
    assert at.last.unet is at.refiner.unet and at.last.scheduler is not at.refiner.scheduler
    assert at.final.size == (CATALOG["sdxl-refiner"].size,) * 2
    assert sharpness(at.final) > sharpness(at.larger)


def test_the_classes_from_pipe_casts_the_guides_does_not_and_both_share_a_scheduler(chapter):
    auto, own, ours = chapter.said_by["from-pipe"].splitlines()
    assert auto.endswith("was torch.float16, and is torch.float16; one scheduler for both")
    assert own.endswith("was torch.bfloat16, and is torch.float32; one scheduler for both")
    assert ours.endswith("was torch.float16, and is torch.float16; each has its own scheduler")


# Where inpainting takes latents


def test_one_of_four_takes_them(chapter):
    said = dict(line.split(": ", 1) for line in chapter.said_by["takers"].splitlines() if line.strip())
    takes = {name: answer == "takes latents" for name, answer in said.items()}
    assert takes == {
        "sd15 (4 channels)": False,
        "sd15-inpaint (9 channels)": False,
        "sdxl-refiner (4 channels)": True,
        "sdxl-inpaint (9 channels)": False,
    }


def test_inpainting_from_latents_repaints_the_hole_alone(chapter):
    at = chapter.names_after["both"]
    moved = change(at.castle, at.output, at.mask)
    assert moved.inside > 2 * moved.outside


# Larger


def test_the_upscaler_is_sharper_than_resizing(chapter):
    at = chapter.names_after["book"]
    assert at.twice.images[0].size == (2 * at.before.width,) * 2
    assert sharpness(at.twice.images[0]) > sharpness(at.resized)


def test_it_shows_what_the_small_picture_shows(chapter):
    at = chapter.names_after["book"]
    assert change(at.before, fit(at.twice.images[0], at.before)).inside < 15


def test_latents_are_no_small_picture(chapter):
    ours, theirs = chapter.said_by["book"].splitlines()
    assert "3 channels of colour" in ours and "4 of latents" in ours
    assert "expects 7" in theirs and "8" in theirs.split("expects", 1)[1]


def test_the_x4_upscaler_is_sharper_than_resizing_over_seeds(chapter):
    at = chapter.names_after["four-times"]
    assert at.found.size == (4 * at.side,) * 2
    for number in range(3):
        found = at.upscaler_4(at.words, image=at.image, **at.call, generator=at.seed(number)).images[0]
        assert sharpness(found) > 1.5 * sharpness(fit(at.crop, found))
        assert change(at.crop, fit(found, at.crop)).inside < 15


# A wider beach


def test_the_beach_grows_and_its_middle_stays(chapter):
    at = chapter.names_after["wider"]
    assert at.panorama.size == (at.sea.width * 3 // 2, at.sea.height)
    assert at.same < 0.5
    assert at.middle.size == (at.sea.width // 2, at.sea.height)


def test_putting_it_back_softly_leaves_less_of_a_step_than_a_hard_mask(chapter):
    at = chapter.names_after["canvas"]
    hard, soft = [], []
    for number in range(3):
        wider = at.inpaint(at.bright, **at.call, generator=at.seed(number)).images[0]
        hard.append(seam(at.keep_unmasked(at.canvas, wider, at.border), at.border))
        soft.append(seam(at.keep_unmasked(at.canvas, wider, at.soft), at.border))
    assert mean(soft) < 0.7 * mean(hard)


def test_the_border_is_painted(chapter):
    at = chapter.names_after["canvas"]
    new = slice(at.sea.width + 4, None)
    assert np.abs(np.asarray(at.wider)[:, new].astype(int) - np.asarray(at.canvas)[:, new]).mean() > 3


# Memory


def test_tasks_of_one_checkpoint_bring_nothing_new(chapter):
    new = {line[:28].strip(): float(line.split()[-5]) for line in chapter.said_by["memory"].splitlines()[:-1]}
    assert len(new) == 13
    assert new["sd15"] > 0 and new["sd15-inpaint"] > 0
    for name in ("sd15, image-to-image", "sd15, inpaint", "the same, switched"):
        assert new[name] == 0
    assert chapter.inpaint.vae is chapter.text2image.vae


# The words, and the exercises
