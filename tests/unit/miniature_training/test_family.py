"""The family's boxes: every turn is a recipe, waits for what it builds on, and a failure is told by name."""

import time

import pytest

from miniature_training import family, registry
from miniature_training.family import SD15, TURNS, Turn
from miniature_training.models import store


def test_every_turn_is_a_recipe_within_its_box():
    for turns in TURNS.values():
        names = [turn.name for turn in turns]
        assert len(set(names)) == len(names) and registry.RECIPES.keys() >= set(names)
        assert all(0 <= turn.begins < turn.ends <= 1 and set(turn.after) <= set(names) for turn in turns)
        assert registry.FALLING >= {turn.name for turn in turns if "--decay" in turn.how}


def test_what_stands_on_a_base_waits_for_it():
    waits = {turn.name: set(turn.after) for turn in TURNS["rest"]}
    for name, told in store.deltas().items():
        turn = name.removeprefix("delta-")
        if told["base"] == "unet-sd15":
            assert waits[turn] == set(SD15)
        elif told["base"] == "unet-kandinsky22":
            assert waits[turn] == {"kandinsky22"}


class Process:
    """One that ends after a moment, with a status."""

    def __init__(self, heard: list[str], name: str, status: int) -> None:
        self.heard, self.name, self.status = heard, name, status
        heard.append(f"{name} begins")

    def wait(self, seconds: float) -> int:
        assert seconds > 0
        time.sleep(0.05)
        self.heard.append(f"{self.name} ends")
        return self.status


@pytest.fixture
def heard(monkeypatch):
    """What begins and ends, of a box in which "bad" fails."""
    heard, turns = [], (Turn("on", 0, 1, after=("base", "bad")), Turn("base", 0, 0.5), Turn("bad", 0, 0.5))
    monkeypatch.setattr(family, "TURNS", {"rest": turns, "bases": turns[1:2]})

    def started(log: str, command: list[str], seconds: float = 0) -> Process:
        name = log.partition("-")[2]
        assert command[1] == name
        return Process(heard, name, 1 if name == "bad" else 0)

    monkeypatch.setattr(family, "_started", started)
    return heard


def test_a_turn_begins_after_those_it_names_and_a_failure_is_told(heard):
    with pytest.raises(RuntimeError, match="these ended with an error: bad; see .*logs"):
        family.train("rest", minutes=0.1)
    assert heard.index("on begins") > max(heard.index("base ends"), heard.index("bad ends"))
    assert len(heard) == 6


def test_beside_the_bases_what_the_rest_learns_from_is_drawn(heard):
    family.train("bases", minutes=0.1)
    assert heard[0] == "prepare begins" and "prepare ends" in heard and "base ends" in heard
