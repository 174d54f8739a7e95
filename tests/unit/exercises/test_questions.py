"""The questions that the chapters ask with predict(): each can be answered, and the cell below shows the answer."""

from __future__ import annotations

import re

import pytest

from helpers import predict
from helpers.cli import notebook_runner
from helpers.exercises import predictions

PAGES = notebook_runner.chapters()
LESSONS = [f"{number:02d}" for number in range(1, 10)]
LONGEST = 72  # characters of a choice: a button has one line
COURSE = predictions.questions()


def asks(page) -> list[str]:
    """The ids that a notebook asks, in order."""
    cells = [cell.source for cell in notebook_runner.read(page).cells if cell.cell_type == "code"]
    return re.findall(r'^predict\("([^"]+)"\)$', "\n".join(cells), re.MULTILINE)


def test_every_question_has_one_right_choice_and_explains_each() -> None:
    for id, one in COURSE.items():
        assert re.fullmatch(r"\d\d[a-z]?\.\d+", id) and len(one.right) == 1 and one.ask.strip()
        assert all(0 < len(text) <= LONGEST for text, _ in one.choices), id
        results = [predict(id, letter) for letter in predictions.LETTERS[: len(one.choices)]]
        assert sum(result.passed for result in results) == 1, id
        assert all(len(result.message) > 20 for result in results), id
        assert len({result.message for result in results}) == len(one.choices) >= 2, id
        assert all(predict(id, text).message == why for text, why in one.choices if "`" not in text), id


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_chapter_asks_its_questions_in_order(page) -> None:
    chapter = page.stem.split("_")[0]
    numbers = [f"{chapter}.{number}" for number in range(1, 1 + len(asks(page)))]
    assert asks(page) == numbers == [id for id in COURSE if id.split(".")[0] == chapter]
    assert len(numbers) >= (2 if chapter in LESSONS else 0)


# What a question's next cells print, as committed: the answer that is called right.
SHOWN = {
    "01.1": r"guidance off: the negative prompt changes 0\.0 grey levels",
    "01.2": r"first and third are the same, bit for bit: True",
    "01.3": r"strength 0\.5: .*counted 12\b",
    "02.1": r"fills 0\.78\d of its box",
    "02.2": r"grow, then shrink: 1\.\d% of the image became white, 0\.0% black",
    "02.3": r"(?s)refused: mask is 96 x 64.*refused: size=100 x 100",
    "02.4": r"5\.1% of the 16 x 16 cells",  # of 16 rows one, from column 2 to 14
    "02.5": r"with a stray pixel .*\(0, 0, \d\d+, \d\d+\)",
    "02.6": r"cut at 50 %: 0\.0 grey levels apart",
    "03.1": r"unet [\d.]+, movq [\d.]+, prior_prior",
    "03.3": r"num_inference_steps +50 +50 +100",
    "03.4": r"strenght=0\.3, bit for bit the same: +True",
    "03.6": r"movq\nbit for bit the same: True",
    "03.7": r"SDXL / SD 1\.5 +2\.25 .* 1\.\d+ +0\.\d+",
    "04.1": r"sd15 +snow on +[5-9]\d% of the ground in the hole .*\nsd15-inpaint +snow on +\d% of the ground",
    "04.2": r"mask: 1, .*: 4",
    "04.3": r"sd15 +0\.0%",
    "04.5": r"the sea shore +[0-3] of 16",
    "04.6": r"stable-diffusion-inpainting inpaint\n",
    "05.1": r"strength 0\.6: int\(20 \* 0\.6\) = 12, ran 12",
    "05.2": r"outside the mask changed by 0\.0 grey levels",
    "06.1": r"cannot take: it sends every image through its encoder",
    "06.2": r"latent +encoder 1, decoder 1",
    "06.4": r"sd15, image-to-image .* 0\.0 M of them new\nsd15, inpaint .* 0\.0 M of them new",
    "07.1": r"without weights, the plain call's image: True",
    "07.2": r"'castle' x 1\.80",
    "07.4": r"\(1, 154, 128\)",
    "07.5": r"(?m)^pooled_prompt_embeds .*moved by the weight: False",
    "08.2": r"ControlNetInpaintPipeline .*scale 0\.5",
    "08.3": r"asked 20 times",
    "09.1": r"1\.0\} +10 calls, 1 latents each: 10 in all",
    "09.5": r"guided in +5 of 10 steps: 15 questions",
    "09.6": r"bit for bit: True",
    "09.7": r"3 images came",
}


def largest(line: str, best=max):
    """Which of the lines, each a name and a number, has the largest number; or the smallest, with min."""
    return lambda text: best(re.findall(line, text), key=lambda found: float(found[1]))[0]


def walked(text: str) -> str:
    """Whether the steps of the walk add up to much more than the way."""
    start, steps = [[int(one) for one in line.split(":")[1].split()] for line in text.splitlines()[-2:]]
    return str(sum(steps) > 1.5 * start[-1])


def grown(text: str) -> str:
    """How many times larger the second map is."""
    small, large = [int(one.replace(",", "")) for one in re.findall(r"a map of ([\d,]+)", text)]
    return str(large // small)


def softened(text: str) -> str:
    """Whose outline a grey mask lowers most."""
    found = re.findall(r"^(\S+), (hard|grey) +outline +(-?[\d.]+)", text, re.MULTILINE)
    levels = {(name, way): float(number) for name, way, number in found}
    return max({name for name, _ in levels}, key=lambda name: levels[name, "hard"] - levels[name, "grey"])


def reused(text: str) -> str:
    """Whether the second way of compiling the whole UNet built less than a fifth of the first one's kernels."""
    default, again = [int(one) for one in re.findall(r"(?:default|reduce-overhead) +(\d+) kernels", text)]
    return str(0 < default > 5 * again)


# The same where numbers have to be compared.
COMPARED = {
    "03.5": (largest(r"(\S+) +round trip.* ([\d.]+) times", min), "kandinsky22-inpaint"),
    "04.7": (softened, "sd15"),
    "05.3": (largest(r"(\w+)Scheduler +in 24 steps: +([\d.]+)"), "EulerAncestralDiscrete"),
    "06.3": (walked, "True"),
    "08.4": (largest(r"(first|second) half +(-?[\d.]+)"), "first"),
    "09.2": (grown, "16"),
    "09.3": (largest(r"(\w*float\d\d) +([\d.]+) grey levels"), "bfloat16"),
    "09.4": (reused, "True"),
}


def printed(id: str) -> tuple[str, str]:
    """What the chapter prints above a question, and in the cells below it, as committed."""
    [page] = [page for page in PAGES if page.stem.startswith(f"{id[:2]}_")]
    cells = [cell for cell in notebook_runner.read(page).cells if cell.cell_type == "code"]
    [at] = [number for number, cell in enumerate(cells) if f'predict("{id}")' in cell.source]
    texts = [
        [output.get("text", "") for cell in part for output in cell.outputs]
        for part in (cells[:at], cells[at + 1 : at + 3])
    ]
    return "\n".join(texts[0]), "\n".join(texts[1]).strip()


@pytest.mark.parametrize("id", SHOWN)
def test_the_cell_below_a_question_shows_its_answer(id) -> None:
    above, below = printed(id)
    assert re.search(SHOWN[id], below)
    assert not re.search(SHOWN[id], above), "the answer stands above the question already"


@pytest.mark.parametrize("id", COMPARED)
def test_the_numbers_below_a_question_say_its_answer(id) -> None:
    read, answer = COMPARED[id]
    assert read(printed(id)[1]) == answer
