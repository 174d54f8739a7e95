"""handoff() passes on what the next pipeline takes, and refuses what it would choke on; both are tried on diffusers."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from PIL import Image

from helpers import handoff, load
from helpers.pipelines import loading
from tests.support.tiny import SIZE, mini_edition

STEPS = {"num_inference_steps": 4}
HALF = Image.new("L", (SIZE, SIZE), 0)
HALF.paste(255, (0, 0, SIZE // 2, SIZE))
SQUARE = {"height": SIZE, "width": SIZE}
KANDINSKY = {"height": 64, "width": 64, "prior_num_inference_steps": 2, **STEPS}


class Pipes(dict):
    """Tiny pipelines, loaded when they are first asked for: name, or (name, task), or (name, task, controlnet)."""

    def __missing__(self, key):
        name, task, controlnet = (*((key,) if isinstance(key, str) else key), None, None)[:3]
        self[key] = load(name, task=task, controlnet=controlnet)
        self[key].set_progress_bar_config(disable=True)
        return self[key]


@pytest.fixture(scope="module")
def pipes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        mini_edition(patch, tmp_path_factory.mktemp("course"))
        yield Pipes()
        loading.unload()


@pytest.fixture(scope="module")
def made(pipes):
    """What sd15 painted: as pictures and as latents."""
    latents, pictures = (
        pipes["sd15"]("a boat", output_type=kind, generator=torch.Generator().manual_seed(0), **STEPS)
        for kind in ("latent", "pil")
    )
    latents.images /= latents.images.std()  # a trained model's are near 1
    return SimpleNamespace(latents=latents, pictures=pictures)


def refused(output, source, target, **call) -> str:
    with pytest.raises(ValueError) as error:
        handoff(output, source, target, **call)
    return str(error.value)


def fails(pipe, **call) -> bool:
    """Whether diffusers itself cannot make this call."""
    try:
        pipe("a boat", **STEPS | call)
    except (ValueError, RuntimeError, TypeError, AttributeError, AssertionError):
        return True
    return False


def own(pipe, **changed):
    """A pipeline of the same class that the catalogue does not know, with some parts changed."""
    parts = {name: part for name, part in pipe.components.items() if name not in changed}
    return type(pipe)(**parts, **changed, requires_safety_checker=False)


# What goes through


def test_one_image_is_passed_on_as_it_is(pipes, made) -> None:
    target = pipes["sd15", "image2image"]
    picture = made.pictures.images[0]
    for output in (made.pictures, made.pictures.images, picture):
        assert handoff(output, pipes["sd15"], target).tobytes() == picture.tobytes()
    assert handoff([picture] * 2, pipes["sd15"], target) == [picture] * 2


@pytest.mark.parametrize("kind", ["np", "pt"])
def test_arrays_and_tensors_of_colours_become_images(pipes, made, kind) -> None:
    array = np.asarray(made.pictures.images[0], np.float32)[None] / 255
    images = array if kind == "np" else torch.from_numpy(array).permute(0, 3, 1, 2)
    passed = handoff(ImagePipelineOutput(images=images), pipes["sd15"], pipes["kandinsky22", "image2image"], **SQUARE)
    assert passed.tobytes() == made.pictures.images[0].tobytes()


def test_latents_come_out_as_a_batch_however_they_are_given(pipes, made) -> None:
    images = made.latents.images
    for output in (made.latents, images, images[0], list(images), (images, None)):
        passed = handoff(output, pipes["sd15"], pipes["sd15", "image2image"])
        assert passed.shape == (1, 4, SIZE // 8, SIZE // 8)
        assert torch.equal(passed, images)
    refiner, latents = pipes["sdxl-refiner", "inpaint"], torch.randn(1, 4, SIZE // 8, SIZE // 8)
    assert not fails(pipes["sdxl-refiner"], image=handoff(latents, refiner, pipes["sdxl-refiner"]))


TAKERS = {
    "sd image to image": (("sd15", "image2image"), {}),
    "sd image to image with a ControlNet": (
        ("sd15", "image2image", "controlnet-depth"),
        {"control_image": HALF.convert("RGB")},
    ),
    "x2": ("upscale-x2", {}),
    "sd inpaint, 4 channels": (("sd15", "inpaint"), {"mask_image": HALF, "masked_image_latents": ...}),
    "sd inpaint, 9 channels": ("sd15-inpaint", {"mask_image": HALF, "masked_image_latents": ...}),
}


@pytest.mark.parametrize("key", TAKERS)
def test_who_takes_latents_never_encodes(pipes, made, key) -> None:
    name, call = TAKERS[key]
    target, latents = pipes[name], made.latents.images
    call = {value: latents if given is ... else given for value, given in call.items()}
    encoded = []
    hook = target.vae.encoder.register_forward_pre_hook(lambda *_: encoded.append(1))
    try:
        image = handoff(made.latents, pipes["sd15"], target, **call)
        again = [
            np.asarray(target("a", image=one, **call, **STEPS, generator=torch.Generator().manual_seed(1)).images[0])
            for one in (image, latents)
        ]
    finally:
        hook.remove()
    assert not encoded
    assert np.array_equal(*again)


def test_sdxl_inpainting_takes_latents_with_four_channels_and_not_with_nine(pipes) -> None:
    special, refiner = pipes["sdxl-inpaint"], pipes["sdxl-refiner", "inpaint"]
    latents = torch.randn(1, 4, SIZE // 8, SIZE // 8)
    call = {"mask_image": HALF, "strength": 0.75, **SQUARE}
    assert not fails(refiner, image=handoff(latents, special, refiner, **call), **call)
    said = refused(latents, special, special, **call)
    assert "its UNet of 9 channels wants the image without its masked part" in said
    assert fails(special, image=latents, **call)


# Who takes pictures only


PICTURES_ONLY = {
    "sd15, inpaint": (("sd15", "inpaint"), {"mask_image": HALF}, "masked_image_latents=latents, passed to it"),
    "sd15-inpaint": ("sd15-inpaint", {"mask_image": HALF}, "its UNet of 9 channels wants the image without"),
    "a crop": (
        ("sd15", "inpaint"),
        {"mask_image": HALF, "padding_mask_crop": 4, "masked_image_latents": torch.zeros(1, 4, SIZE // 8, SIZE // 8)},
        "padding_mask_crop cuts its crop out of an image",
    ),
    "x4": ("upscale-x4", {}, "its UNet looks at the small image itself, 3 channels of colour"),
    "ControlNet": (("sd15", None, "controlnet-depth"), {}, "its image is the control image"),
    "ControlNet, inpaint": (
        ("sd15-inpaint", None, "controlnet-depth"),
        {"mask_image": HALF, "control_image": HALF.convert("RGB")},
        "it takes its image as pixels",
    ),
}


@pytest.mark.parametrize("key", PICTURES_ONLY)
def test_latents_are_refused_where_diffusers_fails_on_them(pipes, made, key) -> None:
    name, call, why = PICTURES_ONLY[key]
    said = refused(made.latents, pipes["sd15"], pipes[name], **call)
    assert why in said
    assert said.endswith("Hand over images: call StableDiffusionPipeline ('sd15') without output_type='latent'.")
    assert fails(pipes[name], image=made.latents.images, **call)
    if "padding_mask_crop" not in call:
        picture = handoff(made.pictures, pipes["sd15"], pipes[name], **call)
        assert not fails(pipes[name], image=picture, **call)


@pytest.mark.parametrize("name", [("kandinsky22", "image2image"), "kandinsky22-inpaint"])
def test_kandinsky_takes_no_latents_not_even_its_own(pipes, name) -> None:
    latents = pipes["kandinsky22"]("a boat", output_type="latent", **KANDINSKY)
    call = KANDINSKY | ({"mask_image": HALF.resize((64, 64))} if name == "kandinsky22-inpaint" else {})
    said = refused(latents, pipes["kandinsky22"], pipes[name], **call)
    assert "it sends every image through its encoder, which wants 3 channels" in said
    assert "latent_space" not in said
    assert fails(pipes[name], image=latents.images, **call)


def test_a_pipeline_of_words_alone_takes_no_image(pipes, made) -> None:
    for name in ("sd15", "kandinsky22"):
        said = refused(made.pictures, pipes["sd15"], pipes[name])
        assert "starts from the prompt alone and takes no image" in said and "task='image2image'" in said


# Latent spaces


@pytest.mark.parametrize("name", ["sdxl-refiner", "sdxl-inpaint", ("kandinsky22", "image2image"), "upscale-x4"])
def test_latents_of_another_space_are_refused(pipes, made, name) -> None:
    said = refused(made.latents, pipes["sd15"], pipes[name])
    space = (name if isinstance(name, str) else name[0]).split("-")[0].replace("upscale", "upscale-x4")
    assert "latents can be read only in the space they were made in" in said
    assert f"latent_space 'sd15' and {space!r} in CATALOG" in said
    assert "without output_type='latent'" in said
    if name == "sdxl-refiner":
        assert not fails(pipes[name], image=made.latents.images)  # diffusers itself takes them without a word


@pytest.mark.parametrize("setting", [{"scaling_factor": 0.13}, {"shift_factor": 0.1}, {"latents_mean": [0.1] * 4}])
def test_one_encoder_with_other_factors_is_refused(pipes, made, setting) -> None:
    target = pipes["sd15", "image2image"]
    vae = copy.deepcopy(target.vae)
    vae.register_to_config(**setting)
    (name, value) = next(iter(setting.items()))
    said = refused(made.latents, pipes["sd15"], own(target, vae=vae))
    assert f"their autoencoders scale latents differently: {name} is" in said and f"{value} here" in said


NAN = float("nan")


@pytest.mark.parametrize(
    ("output", "error", "said"),
    [
        (torch.full((1, 4, 4, 4), NAN), ValueError, "latents that are not finite: .*dtype='float32'"),
        (torch.full((1, 3, SIZE, SIZE), NAN), ValueError, "output has float32 values nan"),
        ([Image.new("RGB", (SIZE, SIZE))], ValueError, "plain black image: .*dtype='float32'.*safety checker"),
        (torch.zeros(1, 16, 4, 4), ValueError, r"the shape \(1, 16, 4, 4\); .*\(batch, 4, height, width\)"),
        ([], ValueError, "holds no image"),
        ("castle", TypeError, "output: expected a PIL image"),
    ],
)
def test_what_is_no_output_is_refused(pipes, output, error, said) -> None:
    with pytest.raises(error, match=said):
        handoff(output, pipes["sd15"], pipes["sd15", "image2image"])


def test_what_is_no_pipeline_or_argument_is_refused(pipes, made) -> None:
    with pytest.raises(TypeError, match="source: expected a diffusers pipeline, as load"):
        handoff(made.pictures, "sd15", pipes["sd15"])
    with pytest.raises(TypeError, match="has no such argument. Did you mean 'mask_image'"):
        handoff(made.pictures, pipes["sd15"], pipes["sd15-inpaint"], mask_imag=HALF)


# Sizes


def test_a_mask_of_another_size_is_refused(pipes, made) -> None:
    mask = HALF.resize((SIZE, 2 * SIZE))
    for output, name in ((made.pictures, "sd15-inpaint"), (made.latents, ("sd15", "inpaint"))):
        more = {} if output is made.pictures else {"masked_image_latents": made.latents.images}
        said = refused(output, pipes["sd15"], pipes[name], mask_image=mask, **more)
        assert "mask_image is 32 x 64 pixels, what is handed over 32 x 32" in said and "fit(mask, (32, 32))" in said


def test_latents_of_another_size_than_the_call_are_refused(pipes) -> None:
    refiner = pipes["sdxl-refiner", "inpaint"]
    latents, mask = torch.randn(1, 4, 8, 8), HALF.resize((64, 64))
    said = refused(latents, refiner, refiner, mask_image=mask)
    assert "latents of an image of 64 x 64 pixels, and the next call will make 32 x 32" in said
    assert "Pass height=64, width=64 to it, and to handoff" in said
    call = {"mask_image": mask, "strength": 0.75}
    assert fails(refiner, image=latents, **call)
    call |= {"height": 64, "width": 64}
    assert not fails(refiner, image=handoff(latents, refiner, refiner, **call), **call)


def test_an_image_that_would_be_cut_down_is_refused(pipes) -> None:
    target, picture = pipes["sd15", "image2image"], Image.new("RGB", (44, 36), "red")
    said = refused(picture, pipes["sd15"], target)
    assert "would make 44 x 36 pixels" in said and "multiples of 8: use fit(image, (40, 32)) first" in said
    assert target("a", image=picture, **STEPS).images[0].size == (40, 32)
    assert "multiples of 4: use fit(image, (44, 32))" in refused(
        picture.resize((44, 34)), pipes["sd15"], pipes["upscale-x4"]
    )


def test_an_image_that_would_be_pressed_into_a_square_is_refused(pipes) -> None:
    picture = Image.new("RGB", (64, 32), "red")
    mask = HALF.resize((64, 32))
    said = refused(picture, pipes["sd15"], pipes["sd15-inpaint"], mask_image=mask)
    assert "is 64 x 32 pixels, and the next call would squeeze it into 32 x 32. Pass height=32, width=64" in said
    call = {"mask_image": mask, "height": 32, "width": 64}
    assert handoff(picture, pipes["sd15"], pipes["sd15-inpaint"], **call).size == (64, 32)
    assert pipes["sd15-inpaint"]("a", image=picture, mask_image=mask, **STEPS).images[0].size == (32, 32)


def test_kandinsky_inpainting_needs_multiples_of_64(pipes) -> None:
    target = pipes["kandinsky22-inpaint"]
    picture, mask = Image.new("RGB", (96, 96), "red"), HALF.resize((96, 96))
    call = KANDINSKY | {"mask_image": mask, "height": 96, "width": 96}
    said = refused(picture, pipes["sd15"], target, **call)
    assert (
        "would make 96 x 96 pixels" in said and "multiples of 64: pass another height and width, such as 64 x" in said
    )
    assert fails(target, image=picture, **call)
    call |= {"height": 64, "width": 64}
    assert not fails(target, image=handoff(picture, pipes["sd15"], target, **call), **call)


def test_kandinsky_image_to_image_swaps_height_and_width(pipes) -> None:
    target, picture = pipes["kandinsky22", "image2image"], Image.new("RGB", (128, 64), "red")
    said = refused(picture, pipes["sd15"], target, height=64, width=128)
    assert "would squeeze it into 64 x 128. Pass height=128, width=64" in said and "the other way round" in said
    assert target("a", image=picture, **KANDINSKY | {"height": 64, "width": 128}).images[0].size == (64, 128)
    call = KANDINSKY | {"height": 128, "width": 64}
    assert target("a", image=handoff(picture, pipes["sd15"], target, **call), **call).images[0].size == (128, 64)
