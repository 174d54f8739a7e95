"""The drawn world knows what it drew: images, masks, boxes, depth and captions belong together and repeat."""

import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from helpers.analysis import scene_classifier
from helpers.common import paths
from helpers.images.masks import grow
from miniature_training.evaluation.sheets import PROMPTS
from miniature_training.world import gallery
from miniature_training.world import scenes as world
from miniature_training.world.captions import DEGRADED_WORDS, PLACE_NAMES, SYNONYMS, caption
from miniature_training.world.places import PLACES
from miniature_training.world.scenes import Scene, draw, sample
from miniature_training.world.skies import HOURS
from miniature_training.world.subjects import COLOURS, SUBJECTS

SEEDS = range(world.HELD_OUT, world.HELD_OUT + 40)
GUIDE_NEGATIVES = (
    "bad anatomy, deformed, ugly, disfigured",
    "bad architecture, unstable, poor details, blurry",
    "bad architecture, deformed, disfigured, poor details",
    "ugly, deformed, disfigured, poor details, bad anatomy",
)
GUIDE_STYLES = (
    "elden ring style castle",
    "elden ring style astronaut in a jungle",
    "Astronaut in a jungle, charliebo artstyle",
    "Astronaut in a jungle, pixelartstyle",
)


def pixels(image):
    return np.asarray(image).astype(np.int16)


def differs(one, other):
    return (pixels(one) != pixels(other)).any(axis=-1)


def sharp(scene, size=160):
    """Drawn without smoothing, so that every pixel is wholly one thing."""
    return draw(scene, size, supersample=1)


def occupied(seed, **fixed):
    """A scene with a subject and nothing spoilt."""
    subject = list(SUBJECTS)[seed % len(SUBJECTS)]
    return sample(seed, degraded=False, **{"subject": subject, **fixed})


# The same again


@pytest.mark.parametrize("seed", list(SEEDS)[:8])
def test_a_seed_draws_the_same_every_time(seed):
    first, second = draw(sample(seed), 64), draw(sample(seed), 64)
    assert first == second and first.image.tobytes() == second.image.tobytes()
    assert first.caption(3) == second.caption(3)


def test_other_seeds_draw_other_images():
    assert len({draw(sample(seed), 64, truth=False).image.tobytes() for seed in SEEDS}) == len(SEEDS)


def test_a_seeds_scene_does_not_depend_on_the_other_fields():
    plain, fixed = sample(7), sample(7, place="snow")
    assert fixed.place == "snow"
    assert replace(fixed, place=plain.place) == plain


def test_without_truth_the_image_is_the_same():
    scene = sample(5)
    bare = draw(scene, 64, truth=False)
    assert bare.image.tobytes() == draw(scene, 64).image.tobytes()
    assert bare.mask is None and bare.depth is None and bare.boxes == {}


@pytest.mark.parametrize("seed", list(SEEDS)[:20])
def test_a_scene_looks_alike_at_another_size(seed):
    scene = sample(seed, degraded=False)
    small, large = draw(scene, 96), draw(scene, 288)
    reduced = large.image.resize((96, 96), Image.Resampling.BOX)
    assert np.abs(pixels(small.image) - pixels(reduced)).mean() < 2
    other = sample(seed + 1000, degraded=False)
    assert np.abs(pixels(small.image) - pixels(draw(other, 96).image)).mean() > 10
    agree = np.asarray(small.mask) == np.asarray(large.mask.resize((96, 96), Image.Resampling.NEAREST))
    assert agree.mean() > 0.985


@pytest.mark.parametrize("size", [(160, 96), (96, 160), (104, 72), 16])
def test_images_have_the_size_asked_for(size):
    drawing = draw(sample(3), size)
    width, height = (size, size) if isinstance(size, int) else size
    assert drawing.image.size == drawing.mask.size == drawing.depth.size == (width, height)
    assert (drawing.image.mode, drawing.mask.mode, drawing.depth.mode) == ("RGB", "L", "L")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_wide_image_does_not_stretch_its_subject(subject):
    scene = Scene(9, subject, "red", "meadow", x=0.5, foot=0.86, size=0.8)
    square, wide = (draw(scene, size).boxes[subject] for size in (96, (192, 96)))
    assert np.abs(np.subtract(wide[2:], wide[:2]) - np.subtract(square[2:], square[:2])).max() <= 1
    middle = (wide[0] + wide[2]) / 2 - (square[0] + square[2]) / 2
    assert middle == pytest.approx(48, abs=1)


# What is true of the subject


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mask_holds_the_subject_and_only_its_shadow_lies_beyond(seed):
    scene = occupied(seed, on_bench=False, bush=False, hour="day", attribute=None)
    with_subject, without = sharp(scene), sharp(replace(scene, subject=None))
    changed, mask = differs(with_subject.image, without.image), np.asarray(with_subject.mask) > 0
    assert not np.asarray(without.mask).any() and without.boxes == {}
    assert changed[mask].mean() > 0.97, "the mask covers what is no subject"
    height = SUBJECTS[scene.subject][1] * scene.size
    y, x = np.mgrid[:160, :160] / 160
    shadow = (np.abs(y - scene.foot) < 0.05 * height + 0.02) & (np.abs(x - scene.x) < 1.15 * height + 0.02)
    beyond = changed & ~mask
    assert not (beyond & ~shadow).any()
    assert beyond.any() or scene.close


@pytest.mark.parametrize("bench", [False, True])
@pytest.mark.parametrize("seed", list(SEEDS)[:30])
def test_repainting_the_subject_changes_nothing_outside_the_mask(seed, bench):
    subject = "cat" if bench else list(SUBJECTS)[seed % len(SUBJECTS)]
    scene = sample(seed, degraded=False, subject=subject, on_bench=bench, bush=seed % 2 == 0)
    colours = random.Random(seed).sample(list(COLOURS), 2)
    one, other = (sharp(replace(scene, colour=colour)) for colour in colours)
    assert one.mask.tobytes() == other.mask.tobytes() and one.boxes == other.boxes
    changed, mask = differs(one.image, other.image), np.asarray(one.mask) > 0
    assert not (changed & ~mask).any()
    assert changed[mask].mean() > 0.1  # a waterfall's cliff and a boat's sails keep their colour


def test_a_bush_in_front_is_cut_out_of_the_mask():
    hidden = []
    for seed in SEEDS:
        scene = occupied(seed, subject="castle", bush=True)
        whole, behind = sharp(replace(scene, bush=False)), sharp(scene)
        lost = (np.asarray(whole.mask) > 0) & ~(np.asarray(behind.mask) > 0)
        assert not (~(np.asarray(whole.mask) > 0) & (np.asarray(behind.mask) > 0)).any()
        assert differs(whole.image, behind.image)[lost].all()
        hidden.append(lost.any())
    assert np.mean(hidden) > 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_boxes_are_tight(seed):
    drawing = draw(occupied(seed), (120, 96))
    left, top, right, bottom = drawing.boxes[drawing.scene.subject]
    mask = np.asarray(drawing.mask)
    assert set(np.unique(mask)) == {0, 255}
    inside = mask[top:bottom, left:right]
    assert inside.sum() == mask.sum()
    assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_size_and_foot_place_the_subject():
    scene = Scene(1, "house", "red", "meadow", foot=0.85, size=1.0)
    for factor in (0.6, 1.0, 1.2):
        box = draw(replace(scene, size=factor), 200).boxes["house"]
        assert (box[3] - box[1]) / 200 == pytest.approx(SUBJECTS["house"][1] * factor * 0.98, abs=0.02)
    assert draw(replace(scene, foot=0.70), 200).boxes["house"][3] == pytest.approx(140, abs=2)
    mirrored = draw(replace(scene, flip=True), 200).mask
    assert np.asarray(mirrored).any() and mirrored.tobytes() != draw(scene, 200).mask.tobytes()


# Depth


@pytest.mark.parametrize("place", PLACES)
def test_the_ground_comes_nearer_downwards_and_the_sky_is_far(place):
    scene = sample(4, subject=None, place=place, degraded=False)
    depth = pixels(draw(scene, 128).depth)
    horizon = int(scene.horizon * 128)
    assert not depth[: horizon - 1].any()
    assert (depth[horizon + 2 :] > 0).all() and (np.diff(depth, axis=0) >= 0).all()
    assert depth[-1].min() > 240 and (depth == depth[:, :1]).all()


def test_a_subject_that_stands_nearer_is_nearer_in_depth():
    levels = []
    for foot in (0.66, 0.78, 0.90, 0.98):
        drawing = sharp(Scene(2, "tree", "green", "meadow", foot=foot, horizon=0.55, size=0.5))
        level = np.unique(np.asarray(drawing.depth)[np.asarray(drawing.mask) > 0])
        assert len(level) == 1, "a subject is as far as its foot"
        levels.append(int(level[0]))
    assert levels == sorted(set(levels)) and levels[0] > 0


# Captions


@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_captions_name_what_is_drawn(first):
    for seed in range(first, first + 100):
        scene = sample(seed)
        text = caption(scene, random.Random(seed))
        words = f" {text.lower().replace(',', ' ')} "
        if scene.subject is None:
            assert any(name in text for name in PLACE_NAMES[scene.place]), text
        else:
            assert any(f" {name} " in words for name in (scene.subject, *SYNONYMS.get(scene.subject, ()))), text
        assert not scene.colour_named or f" {scene.colour} " in words, text
        assert ("glowing eyes" in text) == (scene.attribute == "glowing eyes"), text
        assert (" elven " in words) == (scene.attribute == "elven"), text
        assert not scene.on_bench or " bench" in text, text
        spoilt = {word for wordings in DEGRADED_WORDS.values() for word in wordings}
        assert bool({part.strip() for part in text.split(",")} & spoilt) == bool(scene.degraded), text


def test_a_tenth_of_the_scenes_are_spoilt_and_all_that_exists_occurs():
    scenes = [sample(seed) for seed in range(2000)]
    assert 0.07 < np.mean([scene.degraded is not None for scene in scenes]) < 0.13
    assert {scene.subject for scene in scenes} == {None, *SUBJECTS}
    assert {scene.place for scene in scenes} == set(PLACES) and {scene.hour for scene in scenes} == set(HOURS)
    assert {scene.colour for scene in scenes} == set(COLOURS)
    assert {scene.palette for scene in scenes} == set(world.PALETTES)
    assert {scene.degraded for scene in scenes} == {None, *world.DEGRADATIONS}
    assert not [scene for scene in (sample(seed, degraded=False) for seed in range(200)) if scene.degraded]


@pytest.mark.parametrize("kind", world.DEGRADATIONS)
def test_spoiling_an_image_changes_the_image_and_not_the_truth(kind):
    scene = sample(8, subject="castle", degraded=False)
    clean, spoilt = draw(scene, 128), draw(replace(scene, degraded=kind), 128)
    assert np.abs(pixels(clean.image) - pixels(spoilt.image)).mean() > 2
    assert clean.mask.tobytes() == spoilt.mask.tobytes() and clean.boxes == spoilt.boxes


# Words


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(paths.MINIATURES / "tokenizer")


def test_every_line_of_the_guides_is_understood_word_by_word(tokenizer):
    for prompt in (*PROMPTS, *GUIDE_STYLES, *GUIDE_NEGATIVES):
        ids = tokenizer(prompt).input_ids
        assert len(ids) <= 77 and tokenizer.unk_token_id not in ids[1:-1], prompt
        letters = [piece for piece in tokenizer.tokenize(prompt) if not piece.endswith("</w>")]
        assert letters == [], f"{prompt!r} falls apart into {letters}"
        heard = tokenizer.decode(ids, skip_special_tokens=True)
        assert heard.replace(" ", "") == prompt.lower().replace(" ", "")


def test_unknown_words_are_spelt_and_never_lost(tokenizer):
    ids = tokenizer("a zebra, 3 quiz-shows!").input_ids
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == "azebra,3quiz-shows!"


NAMED = {
    "a black cat with glowing eyes": {"subject": "cat", "colour": "black"},
    "concept art digital painting of an elven castle": {"subject": "castle"},
    "road": {"place": "road"},
    "Face of a yellow cat, high resolution": {"subject": "cat", "colour": "yellow", "place": "park"},
    "boat": {"subject": "boat"},
    "digital painting of a fantasy waterfall": {"subject": "waterfall", "hour": "cloudy"},
    "Astronaut in a jungle, cold color palette": {"subject": "astronaut", "place": "jungle"},
}


@pytest.mark.parametrize("start", NAMED)
def test_the_judge_reads_the_guides_prompts(start):
    prompts = [prompt for prompt in PROMPTS if prompt.startswith(start)]
    assert prompts, "the sheet has lost a line of the guides"
    assert [scene_classifier.words(prompt) for prompt in prompts] == [NAMED[start]] * len(prompts)


def test_the_judge_reads_captions_as_they_were_meant():
    for seed in range(1000):
        scene = sample(seed)
        text = caption(scene, random.Random(seed))
        read = scene_classifier.words(text)
        assert read.get("subject") == scene.subject, text
        assert read.get("colour") == (scene.colour if scene.subject and scene.colour_named else None), text
        assert read.get("hour", scene.hour) == scene.hour, text
        bench = "park bench" in text  # a park bench may stand anywhere
        assert read.get("place", scene.place) == scene.place or bench, text


# Bad input


@pytest.mark.parametrize(
    ("field", "value", "some"),
    [
        ("subject", "dog", "castle, house, cat"),
        ("colour", "grey", "red, orange"),
        ("place", "beach", "meadow, sea shore"),
        ("hour", "noon", "day, night"),
        ("palette", "hot", "plain, cold"),
        ("attribute", "wet", "glowing eyes, elven"),
        ("degraded", "broken", "blurred, blocky"),
    ],
)
def test_a_scene_refuses_what_the_world_does_not_have(field, value, some):
    with pytest.raises(ValueError, match=f"{field} is '{value}'; expected one of .*{some}"):
        replace(sample(1), **{field: value})


def test_a_sampled_scene_is_checked_too():
    with pytest.raises(ValueError, match="subject is 'dog'; expected one of None, castle"):
        sample(1, subject="dog")


def test_an_image_has_at_least_sixteen_pixels_a_side():
    with pytest.raises(ValueError, match="size is 64 x 8; expected at least 16 pixels a side"):
        draw(sample(1), (64, 8))


# What is committed


@pytest.mark.parametrize("name", gallery.IMAGES)
def test_the_courses_images_are_what_the_world_draws(name):
    scene, cover = gallery.IMAGES[name]
    drawing = draw(scene, gallery.SIZE)
    image, mask = Image.open(gallery.FOLDER / f"{name}.png"), Image.open(gallery.FOLDER / f"{name}_mask.png")
    assert (image.mode, mask.mode) == ("RGB", "L") and image.size == mask.size == (gallery.SIZE, gallery.SIZE)
    # Another processor may round a glow the other way; nothing else may differ.
    assert np.abs(pixels(drawing.image) - pixels(image)).max() <= 1, "python -m miniature_training images"
    assert mask.tobytes() == gallery.mask_of(drawing, cover).tobytes()
    assert Image.open(gallery.FOLDER / f"{name}_depth.png").tobytes() == drawing.depth.tobytes()
    white = np.asarray(mask) > 0
    assert 0.05 < white.mean() < 0.6
    if cover == "subject":
        assert white[np.asarray(drawing.mask) > 0].all()
        assert not white[np.asarray(grow(drawing.mask, 40)) == 0].any()


def test_draw_all_writes_every_image_with_its_mask_and_depth(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "SIZE", 32)
    gallery.draw_all(tmp_path / "new")
    expected = {f"{name}{end}.png" for name in gallery.IMAGES for end in ("", "_mask", "_depth")}
    assert {path.name for path in (tmp_path / "new").iterdir()} == expected
    assert {path.name for path in gallery.FOLDER.glob("*.png")} == expected
    assert {Image.open(path).size for path in (tmp_path / "new").iterdir()} == {(32, 32)}
