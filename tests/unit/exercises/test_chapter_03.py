"""Chapter 03's checks accept right answers, whatever way they were made, and say of a wrong one what is wrong."""

from __future__ import annotations

import inspect
import json
from types import SimpleNamespace

import pytest
import torch

from helpers import CATALOG, load_image, load_mask
from helpers.cli.notebook_runner import NOTEBOOKS
from helpers.exercises import chapter_03
from miniature_training.world.scenes import Scene, draw
from tests.support.answers import hint, right

RIGHT = {need: name for need, (name, *_) in chapter_03.NEEDS.items()}


def test_the_right_choices_follow_from_the_catalogue() -> None:
    right("03.1", RIGHT)
    three = [CATALOG[name] for name in chapter_03.POPULAR]
    assert min(three, key=lambda one: one.download_size).name == RIGHT["the smallest download"]
    assert max(three, key=lambda one: one.full_size).name == RIGHT["the largest images"]
    free = [one.name for one in three if "rail" not in one.licence]
    assert free == [RIGHT["a licence without forbidden uses"]]


def test_wrong_choices_are_told_what_speaks_against_them() -> None:
    assert "Expected a dict" in hint("03.1", "sd15-inpaint")
    assert "No checkpoint is named for 'the largest images'" in hint("03.1", {"the smallest download": "sd15"})
    assert "for 'the largest images' yet" in hint("03.1", RIGHT | {"the largest images": ...})
    assert "Did you mean 'sd15-inpaint'" in hint("03.1", RIGHT | {"the smallest download": "sd15-inpainting"})
    assert "its download is 6.9 GB" in hint("03.1", RIGHT | {"the smallest download": "sdxl-inpaint"})
    assert "trained on 768 pixels" in hint("03.1", RIGHT | {"the largest images": "kandinsky22-inpaint"})
    wrong = {"a licence without forbidden uses": "sdxl-inpaint"}
    assert "its licence is openrail++" in hint("03.1", RIGHT | wrong)
    wrong = {"an image as part of the prompt": "sd15-inpaint"}
    assert "trained to read words only" in hint("03.1", RIGHT | wrong)
    assert "none of the three" in hint("03.1", RIGHT | {"the largest images": 3})


def test_a_wrong_choice_is_sent_to_the_section_that_shows_better() -> None:
    sections = {section[0]: section for section in chapter_text().split("\n## ")[1:]}
    shown = {
        "the smallest download": "models(*names)",
        "the largest images": "CATALOG[name].size} pixels",
        "a licence without forbidden uses": "Read licences",
        "an image as part of the prompt": "an image can take the place of a prompt",
    }
    for need, words in shown.items():
        wrong = next(name for name in chapter_03.POPULAR if name != RIGHT[need])
        said = hint("03.1", RIGHT | {need: wrong})
        assert words in sections[said.partition("Section ")[2][0]], said


def chapter_text() -> str:
    """All that stands in the chapter's cells."""
    chapter = json.loads((NOTEBOOKS / "03_popular_models.ipynb").read_text(encoding="utf-8"))
    return "\n".join("".join(cell["source"]) for cell in chapter["cells"])


def boat(size: int | tuple[int, int]):
    """A boat on the sea shore, drawn; around its mask the course's picture."""
    sea, mask = load_image("seashore", size=size), load_mask("seashore", size=size)
    drawn = draw(Scene(5, "boat", "red", "sea shore"), size).image
    return drawn, sea, mask


def test_a_boat_in_sdxls_size_is_right_and_the_rest_is_told_apart() -> None:
    drawn, sea, mask = boat(CATALOG["sdxl-inpaint"].size)
    sea.paste(drawn, mask=mask)
    right("03.2", sea)
    size, small = CATALOG["sdxl-inpaint"].size, CATALOG["sd15-inpaint"].size
    assert size > small
    drawn, sea, mask = boat(size)
    assert "is Stable Diffusion 1.5's size" in hint("03.2", sea.resize((small, small)))
    assert f"Expected {size} x {size} pixels" in hint("03.2", sea.resize((size, size - 8)))
    assert "hardly anything changed" in hint("03.2", sea)
    assert "it is another image" in hint("03.2", load_image("winter", size=size))
    castle = sea.copy()
    castle.paste(draw(Scene(5, "castle", "white", "sea shore"), size).image, mask=mask)
    assert 'does not look like "a red boat" (adherence 0.' in hint("03.2", castle)


def unread(pipe, **arguments):
    known = inspect.signature(pipe.__call__).parameters
    return [name for name in arguments if name not in known]


@pytest.mark.parametrize("kind", [list, set, tuple])
def test_a_function_that_finds_unread_names_is_accepted(kind) -> None:
    right("03.3", lambda pipe, **arguments: kind(unread(pipe, **arguments)))


def test_functions_that_look_elsewhere_are_told_so() -> None:
    def binds(pipe, **arguments):
        inspect.signature(pipe.__call__).bind(**arguments)
        return []

    def reads(pipe, **arguments):
        return [name for name in arguments if name not in unread(pipe, **arguments)]

    assert "the function itself" in hint("03.3", [])
    assert "the function itself" in hint("03.3", dict)
    assert "expected ['strenght']. A call that ends in **kwargs accepts every name" in hint("03.3", binds)
    assert "returns the names that the call reads. Return the others" in hint("03.3", reads)
    assert "stopped with" in hint("03.3", lambda pipe, **arguments: pipe(**arguments))
    assert "expected a list of names" in hint("03.3", lambda pipe, **arguments: None)
    assert "returns ['prompt'], expected []" in hint("03.3", lambda pipe, **arguments: ["prompt"])


def embedding(number: int, width: int = 32) -> torch.Tensor:
    return torch.randn((1, width), generator=torch.Generator().manual_seed(number)) + 2


def test_two_equal_embeddings_and_another_are_right_and_the_rest_is_told_apart() -> None:
    right("03.4", [embedding(0), embedding(0), embedding(1)])
    right("03.4", (embedding(0).half(), embedding(0).half(), embedding(1).half()))
    first, other = embedding(0), embedding(1)
    output = SimpleNamespace(image_embeds=first)
    assert "three tensors" in hint("03.4", output)
    assert "first is the prior's whole output" in hint("03.4", [output] * 3)
    assert "again: expected a tensor" in hint("03.4", [first, "a black cat", other])
    assert "other has shape (2, 32)" in hint("03.4", [first, first, torch.cat([first, other])])
    assert "Their widths differ" in hint("03.4", [first, first, embedding(1, 16)])
    assert "The first two differ" in hint("03.4", [first, other, other])
    assert "The third is the same as the first" in hint("03.4", [first, first, first])
    assert "points the other way" in hint("03.4", [first, first, -other])
