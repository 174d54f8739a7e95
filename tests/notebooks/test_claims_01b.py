"""What chapter 01b claims, on the miniatures: its own loops are the pipelines', for other seeds and calls as well."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers import load, load_image, load_mask
from helpers.cli import notebook_runner
from tests.notebooks.running import mean, visited

CHAPTER = notebook_runner.NOTEBOOKS / "01b_inside_one_call.ipynb"
SEEDS = range(16)


@pytest.fixture(scope="module")
def chapter():
    """What its cells made."""
    return visited(CHAPTER)


def generator(number: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(number)


def embedded(pipe, prompt: str) -> tuple:
    with torch.no_grad():
        return pipe.encode_prompt(prompt, pipe.device, 1, True)


# Two numbers


def test_sampling_reaches_all_of_the_ring(chapter):
    ends = chapter.paths[-1]
    assert (ends.norm(dim=1) - 1).abs().max() < 0.01
    assert len({(x > 0, y > 0) for x, y in ends.tolist()}) == 4
    distance = torch.cdist(ends, chapter.ring).min(dim=1).values
    assert distance.max() <= torch.pi / 200 + 1e-3, "on the points that it knows, or right between two"


@pytest.mark.parametrize("number", range(5))
def test_a_known_x_leads_to_both_answers_and_not_to_their_mean(chapter, number):
    start = torch.randn((300, 2), generator=generator(number))
    ends = chapter.sample(start, put_back=chapter.keep_x)[-1]
    x, y = ends.T
    assert torch.allclose(x, chapter.known.expand(300))
    assert ((y.abs() - chapter.right).abs() < 0.1).float().mean() > 0.9
    assert 0.35 < (y > 0).float().mean() < 0.65 and (y.abs() < 0.5).float().mean() < 0.05


def test_a_guess_is_sharp_where_there_is_little_noise(chapter):
    z = torch.tensor([[0.3, 0.2]])
    lengths = [chapter.best_guess(z, (1 - noise**2) ** 0.5, noise).norm() for noise in (0.9, 0.5, 0.1)]
    assert lengths == sorted(lengths) and lengths[0] < 0.2 and lengths[-1] > 0.95


# The parts


def test_the_unet_has_most_of_the_weights(chapter):
    count = {
        name: sum(w.numel() for w in getattr(chapter, name).parameters()) for name in ("unet", "vae", "text_encoder")
    }
    assert max(count, key=count.__getitem__) == "unet"


@pytest.mark.parametrize("name", ["castle", "seashore", "jungle"])
def test_no_channel_of_the_latents_is_a_colour_or_can_be_left_out(chapter, name):
    image = load_image(name)
    latents = chapter.to_latents(image, generator(0))
    rows, columns = latents.shape[2:]
    small = np.asarray(image.resize((columns, rows)), float)
    for channel in latents[0].cpu().numpy():
        alike = [abs(np.corrcoef(channel.ravel(), small[..., colour].ravel())[0, 1]) for colour in range(3)]
        assert max(alike) - min(alike) < 0.9 and max(alike) < 0.97
    plain = np.asarray(chapter.to_image(latents), float)
    for k in range(4):
        without = latents.clone()
        without[:, k] = without[:, k].mean()
        assert np.abs(np.asarray(chapter.to_image(without), float) - plain).mean() > 4


def test_some_of_the_image_is_left_at_every_noise_level(chapter):
    assert chapter.signal.min() == chapter.signal[999] and 0.06 < chapter.signal[999] < 0.08
    assert torch.allclose(chapter.signal**2 + chapter.noise**2, torch.ones(1000))


def test_there_are_as_many_embeddings_as_the_encoder_takes(chapter):
    assert chapter.words.shape[1] == chapter.pipe.tokenizer.model_max_length == 77


def test_noise_is_easy_and_the_image_hard_to_find_in_much_noise(chapter):
    """Over several images: the error of the noise falls with t, that of the image grows."""
    errors: dict[int, list] = {300: [], 600: [], 900: []}
    for number, name in enumerate(("castle", "seashore", "winter", "meadow")):
        latents = chapter.to_latents(load_image(name), generator(0))
        random = torch.randn(latents.shape, generator=generator(number))
        for t, found in errors.items():
            z = chapter.signal[t] * latents + chapter.noise[t] * random
            answer, guess = chapter.clean_guess(z, t, embedded(chapter.pipe, "")[0])
            found.append([(answer - random).pow(2).mean().sqrt(), (guess - latents).pow(2).mean().sqrt()])
    noise, image = np.array([np.mean(found, axis=0) for found in errors.values()]).T
    assert noise[0] > noise[1] > noise[2] and image[0] < image[1] < image[2]


def test_guidance_goes_on_where_the_answers_differ_by_little(chapter):
    assert 0.02 < chapter.difference < 0.4
    weak, plain, *_, strong = [np.asarray(one, float) for one in chapter.guesses]
    assert np.abs(strong - plain).mean() > 3 * np.abs(weak - plain).mean()
    assert strong.std() > plain.std()


# Four loops


@pytest.mark.parametrize(
    ("prompt", "number", "steps", "scale"), [("a red boat", 0, 7, 7.5), ("a cat at night", 3, 25, 3.0)]
)
def test_the_loop_is_text_to_image(chapter, prompt, number, steps, scale):
    chapter.scheduler.set_timesteps(steps)
    latents = chapter.random_latents(load_image("castle"), generator(number)) * chapter.scheduler.init_noise_sigma
    mine = chapter.denoise(latents, chapter.scheduler.timesteps, *embedded(chapter.pipe, prompt), scale)
    call = {"num_inference_steps": steps, "guidance_scale": scale}
    theirs = chapter.pipe(prompt, **call, generator=generator(number)).images[0]
    assert chapter.to_image(mine).tobytes() == theirs.tobytes()


@pytest.mark.parametrize(("strength", "number", "steps"), [(0.3, 1, 20), (0.85, 2, 13), (1.0, 4, 10)])
def test_a_late_start_is_image_to_image(chapter, strength, number, steps):
    image, source = load_image("meadow"), generator(number)
    chapter.scheduler.set_timesteps(steps)
    timesteps = chapter.scheduler.timesteps[steps - int(steps * strength) :]
    original = chapter.to_latents(image, source)
    latents = chapter.scheduler.add_noise(original, chapter.random_latents(image, source), timesteps[:1])
    mine = chapter.denoise(latents, timesteps, *embedded(chapter.pipe, "a castle"))
    call = {"strength": strength, "num_inference_steps": steps, "generator": generator(number)}
    assert chapter.to_image(mine).tobytes() == chapter.img2img("a castle", image, **call).images[0].tobytes()


def test_each_of_the_chapters_own_pairs_is_equal(chapter):
    told = [line for line in chapter.printed.splitlines() if line.startswith("equal, every number")]
    assert [line.rpartition(" ")[2] for line in told] == ["True"] * 4


@pytest.mark.parametrize(("name", "number"), [("seashore", 1), ("road", 2)])
def test_one_more_line_is_inpainting(chapter, name, number):
    image, mask, source = load_image(name), load_mask(name), generator(number)
    small = torch.from_numpy(np.array(mask)[::8, ::8] >= 128)[None, None].float()
    original = chapter.to_latents(image, source)
    random = chapter.random_latents(image, source)
    chapter.scheduler.set_timesteps(9)
    words = embedded(chapter.pipe, "a black cat")
    start = random * chapter.scheduler.init_noise_sigma
    mine = chapter.denoise_inside(start, chapter.scheduler.timesteps, *words, original, random, small)
    size = {"height": image.height, "width": image.width}
    call = {"num_inference_steps": 9, "generator": generator(number), **size}
    assert chapter.to_image(mine).tobytes() == chapter.inpaint("a black cat", image, mask, **call).images[0].tobytes()


# What is left of the image at strength 1.0


def test_image_to_image_at_full_strength_begins_with_a_tenth_of_the_image(chapter):
    assert chapter.first == 941 and type(chapter.scheduler).__name__ == "UniPCMultistepScheduler"
    assert chapter.spacing == "leading" and 0.094 < chapter.signal[941] < 0.096
    seen = []
    hook = chapter.unet.register_forward_pre_hook(lambda unet, given: seen.append(given[0].clone()))
    try:
        call = {"strength": 1.0, "num_inference_steps": 20, "guidance_scale": 1.0}
        chapter.img2img("a castle", chapter.night, **call, generator=generator(0))
    finally:
        hook.remove()
    source = generator(0)
    original = chapter.to_latents(chapter.night, source)
    random = chapter.random_latents(chapter.night, source)
    assert torch.allclose(seen[0], chapter.signal[941] * original + chapter.noise[941] * random, atol=1e-5)
    assert len(seen) == 20


def test_the_light_of_the_start_comes_through_at_full_strength(chapter):
    made = {
        name: chapter.img2img(
            ["a castle"] * len(SEEDS), [image] * len(SEEDS), strength=1.0, num_inference_steps=20,
            generator=[generator(number) for number in SEEDS],
        ).images
        for name, image in (("night", chapter.night), ("day", chapter.day))
    }  # fmt: skip
    darker = [chapter.light(one) < chapter.light(other) for one, other in zip(made["night"], made["day"], strict=True)]
    assert sum(darker) >= 14 and chapter.darker >= 7
    assert mean(map(chapter.light, made["day"])) - mean(map(chapter.light, made["night"])) > 40


def test_inpainting_at_full_strength_begins_with_noise_alone(chapter):
    starts = []
    for name in ("winter", "castle"):
        image, mask = load_image(name), load_mask("castle")
        seen: list = []
        hook = chapter.unet.register_forward_pre_hook(lambda unet, given, seen=seen: seen.append(given[0].clone()))
        try:
            call = {"height": image.height, "width": image.width, "num_inference_steps": 2, "strength": 1.0}
            chapter.inpaint("a cat", image, mask, **call, generator=generator(0))
        finally:
            hook.remove()
        starts.append(seen[0])
    assert torch.equal(*starts)


# Attention


def test_a_word_looks_where_it_is_painted(chapter):
    assert len(chapter.heard) % chapter.call["num_inference_steps"] == 0
    ratio = {
        word: weights[chapter.inside].mean() / weights[~chapter.inside].mean() for word, weights in chapter.maps.items()
    }
    assert ratio["boat"] > 1.3 and ratio["boat"] > ratio["a"]
    assert all(type(one).__name__ == "AttnProcessor2_0" for one in chapter.nine.unet.attn_processors.values())


@pytest.mark.parametrize(("name", "prompt", "word"), [("seashore", "a red boat", 2), ("meadow", "a black cat", 2)])
def test_other_words_do_too(name, prompt, word):
    from helpers.generation import inside

    image, mask = load_image(name), load_mask(name)
    pipe = load("sd15-inpaint")
    found = []
    for number in range(4):
        call = {"image": image, "mask_image": mask, "num_inference_steps": 8}
        _, steps, _ = inside.run(pipe, seed=number, prompt=prompt, **call)
        _, places = inside.words_of(pipe, prompt)[word]
        _, repaint = steps[0].brought()
        weights = torch.stack([step.attention[places].sum(0) for step in steps]).mean(0)
        found.append(float(weights[repaint].mean() / weights[~repaint].mean()))
    assert min(found) > 1.1 and mean(found) > 1.2


# The slider


def test_the_boats_place_is_settled_while_the_latents_look_like_noise(chapter):
    """At a third of the steps the guess is nearer to the result than to the first guess."""
    from helpers.generation import inside

    call = {"image": chapter.image, "mask_image": chapter.mask, **chapter.size, **chapter.call}
    _, steps, inner = inside.run(chapter.inpaint, seed=5, prompt=chapter.prompt, **call)
    guesses = [np.asarray(inside.decode(inner, step.clean(step.guided)[None])[0], float) for step in steps]
    third = guesses[len(guesses) // 3]
    assert np.abs(third - guesses[-1]).mean() < np.abs(guesses[0] - guesses[-1]).mean()
    assert steps[len(steps) // 3].kept < 0.25  # most of what the UNet sees there is noise
    added = [
        float((step.guided - step.prompted).abs().mean() * (1 - step.kept) ** 0.5 / step.kept**0.5) for step in steps
    ]
    assert added[0] > added[len(added) // 2] > added[-1]


def test_the_slider_shows_the_chapters_own_call(chapter):
    assert chapter.steps_of_call.count == 20 and chapter.steps_of_call.words == ["a", "red", "boat"]
    theirs = chapter.inpaint(
        chapter.prompt, chapter.image, chapter.mask, **chapter.size, **chapter.call, generator=generator(5)
    )
    assert chapter.steps_of_call.image.tobytes() == theirs.images[0].tobytes()
