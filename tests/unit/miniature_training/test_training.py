"""The training loop and what it trains on: averaging, resuming, masks, storage."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from helpers.common import paths
from miniature_training.models import dataset, loop, store
from miniature_training.models.loop import Training
from miniature_training.models.muon import orthogonal
from miniature_training.world.captions import caption
from miniature_training.world.scenes import HELD_OUT, sample
from miniature_training.world.strokes import training_mask


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_TRAINING", str(tmp_path))
    monkeypatch.setattr(paths, "MINIATURES", tmp_path)
    return tmp_path


def line(**more) -> Training:
    """A single weight that is pulled to 3."""
    weight = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        weight.weight.fill_(0.0)
    return Training("line", {"line": weight}, lr=0.05, ema_decay=0.9, weight_decay=0.0, **more)


def pull(run: Training):
    return lambda generator: (run.modules["line"].weight - 3).square().sum()


def test_training_moves_weights_and_their_average_to_the_minimum(scratch):
    run = line()
    run.run(pull(run), minutes=1, steps=400, warmup=1)
    assert run.step == 400
    assert run.modules["line"].weight.item() == pytest.approx(3, abs=0.05)
    assert run.average["line"].weight.item() == pytest.approx(3, abs=0.1)


def test_training_stops_when_its_time_is_up(scratch, monkeypatch):
    run, clock = line(), SimpleNamespace(now=1000.0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def slow(generator):
        clock.now += 8
        return pull(run)(generator)

    run.run(slow, minutes=0.5, warmup=1)
    assert (run.step, run.seconds) == (4, 32)  # after three steps, half a minute was not over
    run.run(slow, minutes=0.25)
    assert (run.step, run.seconds) == (6, 48)


@pytest.mark.parametrize("rate, end", [(loop.cosine, 0), (loop.constant, 1), (loop.decay, 0)])
def test_the_rate_goes_by_the_share_done(scratch, rate, end):
    assert (rate(0.0), rate(1.0)) == pytest.approx((1, end)) and 0 <= rate(0.5) <= 1
    run = line()
    run.run(pull(run), minutes=1, steps=4, warmup=1, rate=rate)
    assert run.groups()[0]["lr"] == pytest.approx(0.05 * rate(0.75))


def test_training_resumes_where_it_stopped(scratch):
    first = line()
    first.run(pull(first), minutes=1, steps=50, warmup=1)
    second = line()
    assert second.resume()
    assert second.step == 50
    assert torch.equal(second.modules["line"].weight, first.modules["line"].weight)
    assert torch.equal(second.average["line"].weight, first.average["line"].weight)
    (one,), (other,) = first.optimizers, second.optimizers
    assert one.state_dict()["state"].keys() == other.state_dict()["state"].keys() != set()


def test_nothing_to_resume_is_said(scratch):
    assert line().resume() is False


def test_same_seed_same_training(scratch):
    def noisy(run):
        return lambda g: (run.modules["line"].weight - torch.randn((), generator=g)).square().sum()

    results = []
    for _ in range(2):
        run = line(seed=5)
        run.run(noisy(run), minutes=1, steps=30, warmup=1)
        results.append(run.modules["line"].weight.item())
    assert results[0] == results[1]


def test_muon_makes_every_update_orthogonal():
    stack = torch.randn(3, 24, 60, generator=torch.Generator().manual_seed(0))
    for matrices in (stack, stack.mT):
        singular = torch.linalg.svdvals(orthogonal(matrices))
        assert singular.min() > 0.6 and singular.max() < 1.25
        u, _, v = torch.linalg.svd(matrices, full_matrices=False)
        assert torch.nn.functional.cosine_similarity((u @ v).flatten(1), orthogonal(matrices).flatten(1)).min() > 0.97


def test_muon_leaves_embeddings_to_adamw(scratch):
    layers = nn.ModuleDict({"table": nn.Embedding(32, 16), "layer": nn.Linear(16, 16)})
    adamw, muon = Training("table", {"layers": layers}, lr=0.05, muon=True).optimizers
    assert any(p is layers["table"].weight for p in adamw.param_groups[0]["params"])
    assert [p is layers["layer"].weight for p in muon.param_groups[0]["params"]] == [True]


def test_muon_trains_matrices_and_adamw_the_rest(scratch):
    torch.manual_seed(0)
    target, x = torch.randn(16, 16), torch.randn(64, 16)
    runs = []
    for _ in range(2):
        torch.manual_seed(1)
        runs.append(Training("both", {"layer": nn.Linear(16, 16)}, lr=0.05, ema_decay=0.9, weight_decay=0.0, muon=True))
    run, other = runs
    assert [type(o).__name__ for o in run.optimizers] == ["AdamW", "Muon"]
    run.run(lambda g: (run.modules["layer"](x) - x @ target - 1).square().mean(), minutes=1, steps=900, warmup=1)
    assert torch.allclose(run.modules["layer"].weight, target.T, atol=0.2)
    assert run.modules["layer"].bias.mean() > 0.3, "AdamW moves it toward 1, at a gentler rate"
    assert other.resume()
    assert len(other.optimizers[1].state_dict()["state"]) == 1
    assert other.peaks == [1.5e-3, 0.05]


def test_a_resumed_training_starts_from_its_own_rate(scratch):
    first = line()
    first.run(pull(first), minutes=1, steps=50, warmup=1)
    gentle = Training("line", {"line": nn.Linear(1, 1, bias=False)}, lr=0.001, weight_decay=0.0)
    assert gentle.resume()
    rates = []
    gentle.run(lambda g: rates.append(gentle.groups()[0]["lr"]) or pull(gentle)(g), minutes=1, steps=5, warmup=1)
    assert rates[0] == 0.001 == max(rates)


def test_crops_lean_on_the_subject():
    from miniature_training.recipes.vae import CROP, corner

    mask = np.zeros((128, 128), dtype=np.uint8)
    mask[96:120, 8:32] = 255
    generator = torch.Generator().manual_seed(0)
    corners = [corner(mask, generator) for _ in range(300)]
    assert all(0 <= v <= 128 - CROP for spot in corners for v in spot)
    seen = np.mean([mask[y : y + CROP, x : x + CROP].any() for y, x in corners])
    empty = np.zeros_like(mask)
    anywhere = [corner(empty, generator) for _ in range(300)]
    assert seen > 0.68 > 0.6 > np.mean([mask[y : y + CROP, x : x + CROP].any() for y, x in anywhere])


def rows(seeds: range) -> tuple[np.ndarray, np.ndarray]:
    """What `dataset.drawn` has drawn in processes of its own."""
    return np.array(list(seeds)), -np.array(list(seeds))


def test_what_was_drawn_is_kept_in_the_order_of_its_seeds(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_TRAINING", str(tmp_path))
    for make in (rows, None):  # the second time nothing is drawn
        one, other = dataset.drawn(["one", "other"], range(5, 12), make, size=8, chunk=3)
        assert one.tolist() == list(range(5, 12)) == (-other).tolist()
    assert sorted(file.name for file in (tmp_path / "images-8").iterdir()) == ["one.npy", "other.npy"]


def test_noise_is_added_by_the_schedule_of_diffusers():
    from diffusers import DDPMScheduler

    from miniature_training.models.denoising import SCHEDULE, noised, signal

    clean, alphas = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(1)), signal().cpu()
    noisy, noise, t, snr = noised(clean, alphas, torch.Generator().manual_seed(0))
    assert torch.allclose(noisy, DDPMScheduler(**SCHEDULE).add_noise(clean, noise, t), atol=1e-6)
    assert torch.allclose(snr, alphas[t] / (1 - alphas[t])) and len(t.unique()) > 3


def test_cats_are_drawn_three_times_as_often():
    from miniature_training.models.denoising import pool

    scenes = [sample(seed, subject=subject) for seed, subject in enumerate(("castle", "cat", "boat"))]
    assert pool(scenes).tolist() == [0, 1, 1, 1, 2]


def test_the_guides_images_are_what_their_prompts_ask_for():
    made = [dataset.scene(dataset.GUIDED + i) for i in range(len(dataset.GUIDES))]
    cats = [scene for scene in made if (scene.subject, scene.colour) == ("cat", "black")]
    assert len(cats) == 8 and sum(scene.attribute == "glowing eyes" for scene in cats) >= 4
    captions = [caption(scene, random.Random(0)) for scene in made]
    assert all("black" in text for scene, text in zip(made, captions, strict=True) if scene in cats)
    faces = [scene for scene in made if scene.close and scene.on_bench and scene.colour == "yellow"]
    assert len(faces) == 3 and sum(scene.subject is None and scene.place == "road" for scene in made) == 2
    assert dataset.scene(7) == sample(7) and dataset.scene(HELD_OUT + 7) == sample(HELD_OUT + 7)


def test_what_is_repainted_counts_twice_as_much():
    from miniature_training.models.denoising import epsilon_loss, half_outside

    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    noise, snr = torch.zeros(1, 4, 4, 4), torch.ones(1)
    inside, outside = (
        epsilon_loss(mask.expand(1, 4, 4, 4), noise, snr, half_outside(mask)),
        epsilon_loss((1 - mask).expand(1, 4, 4, 4), noise, snr, half_outside(mask)),
    )
    assert inside.item() == pytest.approx(2 * outside.item())
    assert (inside + outside).item() == pytest.approx(1), "the weights' mean is one"


def test_training_masks_cover_every_kind_and_size():
    subject = np.zeros((128, 128), dtype=np.uint8)
    subject[40:110, 50:90] = 255
    shares = [training_mask(subject, random.Random(i)).mean() for i in range(200)]
    whole = sum(s == 1 for s in shares) / len(shares)
    assert 0.03 < whole < 0.15, "one mask in twelve covers everything; inpainting masks more images whole by itself"
    assert all(s > 0.005 for s in shares), "no mask is empty"
    assert min(shares) < 0.12 and np.median(shares) < 0.6


def test_a_subject_mask_hides_the_subject():
    subject = np.zeros((128, 128), dtype=np.uint8)
    subject[40:110, 50:90] = 255
    masks = [training_mask(subject, random.Random(i)) for i in range(200)]
    hidden = [(mask & (subject > 0)).sum() / (subject > 0).sum() for mask in masks]
    assert np.mean(np.array(hidden) > 0.95) > 0.5


def test_a_missing_component_says_how_to_train_it(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "MINIATURES", tmp_path)
    with pytest.raises(FileNotFoundError, match="python -m miniature_training train vae"):
        store.load_component("vae", nn.Module)


def test_held_out_scenes_are_never_trained_on():
    from miniature_training.world.scenes import HELD_OUT

    assert min(d.scene.seed for d in dataset.held_out(3)) >= HELD_OUT > 900_000_000


def test_nine_channels_start_as_the_four_channel_model():
    from miniature_training.recipes.unet import build, nine_channels

    torch.manual_seed(0)
    four = build(4).eval()
    nine = nine_channels(four).eval()
    x, t, states = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.randn(1, 77, 128)
    with torch.no_grad():
        plain = four(x, t, encoder_hidden_states=states).sample
        more = nine(torch.cat([x, torch.randn(1, 5, 16, 16)], 1), t, encoder_hidden_states=states).sample
    assert torch.allclose(plain, more, atol=1e-5)


def test_four_channels_fold_the_constant_inputs_into_the_bias():
    from miniature_training.recipes.unet import build, four_channels

    torch.manual_seed(0)
    nine, nothing = build(9).eval(), torch.tensor([0.3, -1.0, 0.5, 2.0])
    x = torch.randn(1, 4, 16, 16)
    constant = torch.cat([torch.ones(1), nothing]).view(1, 5, 1, 1).expand(1, 5, 16, 16)
    with torch.no_grad():
        expected = nine.conv_in(torch.cat([x, constant], 1))
        folded = four_channels(nine, nothing).conv_in(x)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert torch.allclose(folded[inner], expected[inner], atol=1e-5)
    assert not torch.allclose(folded, expected, atol=1e-3), "at the edge, zero padding makes the difference"
