"""`lcm`: a LoRA with which `sd15` and `sd15-inpaint` make an image in one to four steps, without guidance.

It is loaded and called as latent-consistency/lcm-lora-sdv1-5 is (LCMScheduler, guidance 1 to 2), and serves what stands
on these two as well: the styles and the ControlNets. One set of factors is trained in both UNets at once.

Latent consistency distillation (https://arxiv.org/abs/2311.05556) asks that the guesses of two neighbouring steps of
the guided teacher be equal, and so learns from its own guesses, which only slowly become right from the last step to
the first: here it has a thousand steps of training, not the paper's tens of thousands. So it learns from finished
trajectories instead: the teacher goes on from some noisy latents to the end, and every latents on its way are asked
for that end (https://arxiv.org/abs/2101.02388). Half of the trajectories begin where the student's own steps have led,
with fresh noise added as LCMScheduler does, so it learns to mend what it will be given. A critic of latents has a say,
as it has with the decoder: what decides alone on errors paints the mean of what may have been, which is blur.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from diffusers import LCMScheduler, StableDiffusionInpaintPipeline, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import parametrize

from helpers.catalog.checkpoints import CATALOG
from helpers.common import paths
from helpers.images.contact_sheet import show
from helpers.images.masks import load_mask
from helpers.images.reading import load_image
from miniature_training.evaluation import scores
from miniature_training.evaluation.ruler import named, ruler
from miniature_training.evaluation.sheets import PROMPTS
from miniature_training.models import store
from miniature_training.models.critic import Critic, losses
from miniature_training.models.dataset import SIZE
from miniature_training.models.denoising import Denoising
from miniature_training.models.factors import factorise
from miniature_training.models.loop import Training, constant, decay, device, halved, leader_first
from miniature_training.recipes.joint import Cases, counting
from miniature_training.world.scenes import HELD_OUT

NAME = "lcm"
BASES = {"unet-sd15": 1.0, "unet-sd15-inpaint": 0.15}  # and how many of their cases are masked whole
RANK = 8  # what a megabyte and a half holds
APART = ("conv_in", "bias", "norm")  # not trained: where the bases differ, and what LoRA leaves alone
GUIDANCE = (6.0, 8.0)  # of the teacher
TEACHER = 12  # its steps from the first timestep on
GRID = 50  # LCMScheduler's original_inference_steps
BATCH = {"cpu": 16, "cuda": 128}
MIXED = 16  # trajectories that a batch is taken from
KEPT = 24  # batches of trajectories that are learnt from
FRESH = 16  # steps of training after which a new one is made
BEGINNING = 0.5  # of what is learnt from are the first latents of a trajectory, which is what inference begins with
STEPS = (2, 3, 4, 4, 4, 6)  # of the student's own, some of which come before a trajectory
ALONE = 100  # steps in which only the critic learns
MAPS, VERDICT = 1.0, 0.15  # how much the critic's maps and its verdict count beside the errors
ROUNDING = 0.02  # an error this small counts by its square, a larger one by itself


@dataclass
class Trajectories:
    """A teacher's ways to its ends, all with the same timesteps: what a student learns from."""

    x: torch.Tensor  # (P, B, 4, h, w) noisy latents
    t: torch.Tensor  # (P,)
    end: torch.Tensor  # (B, 4, h, w)
    mask: torch.Tensor  # (B, 1, h, w)
    hidden: torch.Tensor  # (B, 4, h, w) latents of the masked image
    states: torch.Tensor  # (B, 77, width)


class Host:
    """One of the two bases: as the teacher, and once more with the student's factors."""

    def __init__(
        self, name: str, denoising: Denoising, *, least: int | None, factors: nn.ModuleDict | None = None
    ) -> None:
        self.cases = Cases(denoising, whole=BASES[name], least=least, size=BATCH[device().type])
        self.alphas, self.nothing = denoising.alphas, denoising.states([""])
        teacher, student = (store.load_component(name, UNet2DConditionModel).to(device()).eval() for _ in range(2))
        self.teacher = teacher.requires_grad_(False)
        if factors is None:
            factorise(student, rank=RANK, frozen=APART)
        else:
            student.requires_grad_(False)
            for place, shared in factors.items():
                module = student.get_submodule(place.replace("/", "."))
                parametrize.register_parametrization(module, "weight", shared)
        self.student = student
        for unet in (teacher, student):
            unet.to(memory_format=torch.channels_last)

    @property
    def factors(self) -> nn.ModuleDict:
        """The student's factors by the name of their layer; "/" stands for the dots, which torch does not allow."""
        found = {
            name.replace(".", "/"): module.parametrizations.weight[0]
            for name, module in self.student.named_modules()
            if parametrize.is_parametrized(module, "weight")
        }
        return nn.ModuleDict(found)

    def guess(self, unet: nn.Module, x: torch.Tensor, t: torch.Tensor, case: Trajectories) -> torch.Tensor:
        """The clean latents that a UNet sees in noisy ones; x (B, 4, h, w), t (B,)."""
        seen = x if unet.config["in_channels"] == 4 else torch.cat([x, case.mask, case.hidden], 1)
        with halved():
            noise = unet(seen, t, encoder_hidden_states=case.states).sample.float()
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        return (x - (1 - alpha).sqrt() * noise) / alpha.sqrt()

    def guided(self, x: torch.Tensor, t: torch.Tensor, case: Trajectories, scale: torch.Tensor) -> torch.Tensor:
        """The teacher's guess with guidance; scale (B, 1, 1, 1), as the pipelines' guidance_scale."""
        parts = (torch.cat([part] * 2) for part in (case.mask, case.hidden))
        states = torch.cat([self.nothing.expand_as(case.states), case.states])
        both = self.guess(self.teacher, torch.cat([x] * 2), t.repeat(2), Trajectories(x, t, x, *parts, states))
        plain, asked = both.chunk(2)
        return plain + scale * (asked - plain)

    @torch.no_grad()
    def trajectories(self, generator: torch.Generator) -> Trajectories:
        """One batch; it begins with noise, with noisy drawings, or where the student's steps have led."""

        def random() -> float:
            return torch.rand((), generator=generator).item()

        def noisy(z: torch.Tensor, place: int) -> torch.Tensor:
            alpha = self.alphas[timestep(place)]
            return alpha.sqrt() * z + (1 - alpha).sqrt() * torch.randn(z.shape, generator=generator).to(z)

        clean, mask, hidden, states = self.cases.batch(generator)
        case = Trajectories(clean[None], torch.zeros(1), clean, mask, hidden, states)
        kind, place = random(), GRID
        x = torch.randn(clean.shape, generator=generator).to(clean)
        if kind < 0.15:
            place = 1 + int(random() * (GRID - 1))
            x = noisy(clean, place)
        elif kind < 0.6:
            steps = STEPS[int(random() * len(STEPS))]
            taken = 1 + int(random() * (steps - 1))
            for done in range(1, taken + 1):
                z = self.guess(self.student, x, full(x, timestep(place)), case)
                place = GRID - done * GRID // steps
                x = noisy(z, place)
        scale = GUIDANCE[0] + (GUIDANCE[1] - GUIDANCE[0]) * torch.rand((len(x), 1, 1, 1), generator=generator).to(x)
        return self._finished(x, place, case, scale, phase=random())

    def _finished(
        self, x: torch.Tensor, place: int, case: Trajectories, scale: torch.Tensor, *, phase: float
    ) -> Trajectories:
        """From x, at a place of the grid, to the teacher's end, by DPM-Solver++(2M, https://arxiv.org/abs/2211.01095)."""
        count = max(1, round(TEACHER * place / GRID))
        places = [place, *(max(1, round(place * (count - i - phase / 2) / count)) for i in range(1, count))]
        places = sorted(set(places), reverse=True)
        alphas = self.alphas[[timestep(p) for p in places]]
        logs = (alphas / (1 - alphas)).sqrt().log()  # of signal to noise
        way, before = [], None
        for i, alpha in enumerate(alphas):
            way.append(x)
            z = self.guided(x, full(x, timestep(places[i])), case, scale)
            if i + 1 == len(places):
                break
            leap, here = logs[i + 1] - logs[i], z
            if before is not None:
                here = z + (z - before) * leap / (logs[i] - logs[i - 1]) / 2
            following = alphas[i + 1]
            ratio = ((1 - following) / (1 - alpha)).sqrt()
            x, before = ratio * x - following.sqrt() * torch.expm1(-leap) * here, z
        t = torch.tensor([timestep(p) for p in places])
        return Trajectories(torch.stack(way), t, z, case.mask, case.hidden, case.states)


def timestep(place: int) -> int:
    """The timestep at a place of LCMScheduler's grid, 1 to GRID."""
    return place * (1000 // GRID) - 1


def full(x: torch.Tensor, t: int) -> torch.Tensor:
    return torch.full((len(x),), t, device=x.device)


def picked(kept: deque[Trajectories], generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, Trajectories]:
    """Noisy latents (B, 4, h, w), their timesteps (B,) and the rest of their trajectories, from all that are kept."""
    size, chosen = BATCH[device().type], []
    for _ in range(parts := min(MIXED, size)):
        one = kept[int(torch.randint(0, len(kept), (), generator=generator))]
        p, b = (torch.randint(0, n, (size // parts,), generator=generator) for n in one.x.shape[:2])
        p *= torch.rand(p.shape, generator=generator) > BEGINNING
        chosen.append((one.x[p, b], one.t[p], one.end[b], one.mask[b], one.hidden[b], one.states[b]))
    x, t, *rest = (torch.cat(part) for part in zip(*chosen, strict=True))
    return x, t.to(x.device), Trajectories(x[None], t, *rest)


def distance(ours: torch.Tensor, end: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Pseudo-Huber: blur costs less by absolute errors than being sharp in the wrong place costs by squares."""
    error = ((ours - end).square() + ROUNDING**2).sqrt() - ROUNDING
    return (error * counts).mean()


def train(
    *, minutes: float, steps: int | None = None, resume: bool = False, last: bool = False, least: int | None = None
) -> None:
    """Train the LoRA; resume: on from its last checkpoint, whose bases may have been trained on since, or else from
    what is shipped.

    last: the run in which the rate falls to zero.
    """
    with leader_first():
        denoising = Denoising()
        first, second = BASES
        hosts = [Host(first, denoising, least=least)]
        hosts.append(Host(second, denoising, least=least, factors=hosts[0].factors))
    if resume and store.shipped(NAME):
        take_up(hosts[0].factors)
    modules = {"factors": hosts[0].factors, "critic": Critic(latent=True)}
    critic = modules["critic"]
    training = Training(NAME, modules, lr=1.5e-3, betas=(0.5, 0.99), ema_decay=0.995, weight_decay=0.0)
    if resume:
        training.resume()
    kept: list[deque[Trajectories]] = [deque(maxlen=KEPT) for _ in hosts]
    parts: dict[str, torch.Tensor] = {}

    def loss(generator: torch.Generator) -> torch.Tensor:
        turn, own = training.step % len(hosts), training.step // len(hosts)
        host, mine = hosts[turn], kept[turn]
        for _ in range(4 if not mine else own % FRESH == 0):
            mine.append(host.trajectories(generator))
        x, t, case = picked(mine, generator)
        ours = host.guess(host.student, x, t, case)
        errors = distance(ours, case.end, counting(case.mask))
        critics, maps, verdict = losses(critic, ours, case.end)
        for key, value in {"errors": errors, "critic": critics, "maps": maps, "verdict": verdict}.items():
            parts[key] = parts.get(key, value.detach()).lerp(value.detach(), 0.02)
        return critics + errors + (MAPS * maps + VERDICT * verdict) * (training.step >= ALONE)

    def export() -> None:
        save(hosts[0].student, training.average["factors"])
        told = {key: round(value.item(), 3) for key, value in parts.items()}
        print(f"\nstep {training.step}, {training.seconds / 60:.0f} minutes: {told}", flush=True)

    rate = decay if last else constant
    training.run(loss, minutes=minutes, steps=steps, rate=rate, on_checkpoint=export)
    export()
    store.add_checkpoint(NAME, {"model": ["peft", "LoraModel", NAME], "size": SIZE})


def save(student: nn.Module, factors: nn.ModuleDict) -> None:
    """Write the LoRA to data/miniatures/lcm as diffusers does, in float16; student: whose layers the factors change."""
    layers: dict[str, torch.Tensor] = {}
    for place, one in factors.items():
        name = place.replace("/", ".")
        rest = student.get_submodule(name).weight.shape[1:]
        layers[f"{name}.lora_A.weight"] = one.down.detach().view(-1, *rest)
        layers[f"{name}.lora_B.weight"] = one.up.detach().view(*one.up.shape, *(1 for _ in rest[1:]))
    layers = {name: value.cpu().half().contiguous() for name, value in layers.items()}
    StableDiffusionPipeline.save_lora_weights(paths.MINIATURES / NAME, unet_lora_layers=layers)
    for file in (paths.MINIATURES / NAME).iterdir():
        file.chmod(0o644)  # diffusers writes it for its owner alone


@torch.no_grad()
def take_up(factors: nn.ModuleDict) -> None:
    """Put the shipped LoRA into the factors, in place."""
    layers = load_file(paths.MINIATURES / NAME / "pytorch_lora_weights.safetensors")
    for place, one in factors.items():
        for half, into in (("lora_A", one.down), ("lora_B", one.up)):
            into.copy_(layers[f"unet.{place.replace('/', '.')}.{half}.weight"].reshape(into.shape))


def few_steps(kind: type, name: str):
    """The pipeline of a base with this LoRA, loaded as anybody would."""
    pipe = scores.pipeline(kind, name)
    pipe.load_lora_weights(CATALOG[NAME].source)
    pipe.fuse_lora()
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    return pipe


def figures(count: int = 120, *, steps: int = 4, guided_steps: int = 25) -> dict[str, float]:
    """Images in four steps beside those of 25 guided ones, same prompts and seeds; less structure is nearer drawings.

    Subject, colour and place: the share that is right in four steps; inpaint: of what sd15-inpaint repaints.
    """
    quick = {"num_inference_steps": steps, "guidance_scale": 1.0}
    slow = {"num_inference_steps": guided_steps, "guidance_scale": 7.5}
    texts, result = [text for text, _ in named(count)], {}
    for prefix, make, call in (("", few_steps, quick), ("guided_", scores.pipeline, slow)):
        images = painted(make(StableDiffusionPipeline, "sd15"), call, prompt=texts)
        result[f"{prefix}structure"] = ruler()(images)["structure"]
        asked = scores.prompts(count)
        images = painted(make(StableDiffusionPipeline, "sd15"), call, prompt=[text for text, _ in asked])
        result |= {f"{prefix}{k}": v for k, v in scores.right(images, [what for _, what in asked]).items()}
        tasks = scores.repainting(count)
        given = {"image": [drawing.image for drawing, *_ in tasks], "mask_image": [mask for _, mask, *_ in tasks]}
        pipe = make(StableDiffusionInpaintPipeline, "sd15-inpaint")
        images = painted(pipe, call, prompt=[text for *_, text, _ in tasks], **given)
        right = scores.right(images, [what for *_, what in tasks])
        result |= {f"{prefix}inpaint_{head}": share for head, share in right.items()}
    return result


def painted(pipe, call: dict, *, batch: int = 20, **many: list) -> list[Image.Image]:
    """The images of as many calls as the lists in `many` are long, each with a seed of its own."""
    images: list[Image.Image] = []
    for i in range(0, len(many["prompt"]), batch):
        some = {name: values[i : i + batch] for name, values in many.items()}
        generator = [torch.Generator().manual_seed(HELD_OUT + i + k) for k in range(len(some["prompt"]))]
        size = {"height": SIZE, "width": SIZE}
        images += pipe(**some, **call, **size, generator=generator).images
    return images


def sheet(seeds: int = 4, *, guided_steps: int = 25) -> Image.Image:
    """The guides' prompts in four steps, and to the right of each in 25 guided ones; then two images repainted."""
    quick, slow = {"num_inference_steps": 4, "guidance_scale": 1.0}, {"num_inference_steps": guided_steps}
    images, titles = [], []
    for prompt in PROMPTS:
        for title, make, call in (("4 steps", few_steps, quick), ("25 steps", scores.pipeline, slow)):
            images += painted(make(StableDiffusionPipeline, "sd15"), call, prompt=[prompt] * seeds)
            titles += [f"{prompt}, {title}"] + [""] * (seeds - 1)
    for name, prompt in (("bench", "a black cat"), ("seashore", "a red boat")):
        given = {"image": [load_image(name)] * seeds, "mask_image": [load_mask(name)] * seeds}
        for title, make, call in (("4 steps", few_steps, quick), ("25 steps", scores.pipeline, slow)):
            pipe = make(StableDiffusionInpaintPipeline, "sd15-inpaint")
            images += painted(pipe, call, prompt=[prompt] * seeds, **given)
            titles += [f"{prompt}, {title}"] + [""] * (seeds - 1)
    return show(images, titles=titles, columns=2 * seeds)
