"""`lcm`: a LoRA with which `sd15` and `sd15-inpaint` make an image in one to four steps, without guidance.

It is loaded and called as latent-consistency/lcm-lora-sdv1-5 is (LCMScheduler, guidance 1 to 2), and serves what stands
on these two as well: the styles and the ControlNets. One set of factors is trained in both UNets at once.

A student that learns to hit a teacher's images one by one (latent consistency, https://arxiv.org/abs/2311.05556, or
finished trajectories, https://arxiv.org/abs/2101.02388) cannot know at the first step which of many images it will be,
and paints their mean, which is blur. So the student's images need not be the teacher's, only as likely: distribution
matching distillation (https://arxiv.org/abs/2405.14867). An imitator, a copy of the base, learns to denoise what the
student makes; where the guided teacher sees something else than the imitator in the same noisy latents, the student
moves towards the teacher. It is trained on latents that its own steps have led to, as inference will; a critic of
latents compares what it makes with drawings.
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
from miniature_training.models.denoising import EARLY, Denoising, epsilon_loss
from miniature_training.models.factors import factorise
from miniature_training.models.loop import Training, constant, device, halved, leader_first
from miniature_training.recipes.joint import Cases, counting
from miniature_training.world.scenes import HELD_OUT

NAME = "lcm"
BASES = {"unet-sd15": 1.0, "unet-sd15-inpaint": 0.15}  # and how many of their cases are masked whole
RANK = 8  # what a megabyte and a half holds
APART = ("conv_in", "bias", "norm")  # not trained: where the bases differ, and what LoRA leaves alone
GUIDANCE = (6.0, 8.0)  # of the teacher
GRID = 50  # LCMScheduler's original_inference_steps
STEPS = (1, 2, 3, 4, 4, 4, 6)  # of the student's own
LATER = 0.25  # this share of its ways begins with noisy drawings, as image-to-image does
BATCH = {"cpu": 16, "cuda": 256}
KEPT = 4  # batches of its ways that are learnt from
MIXED = 16  # parts of a batch, each from one of these
TURN = 4  # steps of training: all teach the imitator and the critic, the last of them the student too
ALONE = 200  # steps at the beginning in which the student waits for these two
NOISE = (20, 980)  # timesteps at which teacher and imitator are compared
VERDICT = 0.1  # how much the critic's verdict counts beside that comparison


@dataclass
class Asked:
    """What a UNet is told beside noisy latents."""

    mask: torch.Tensor  # (B, 1, h, w)
    hidden: torch.Tensor  # (B, 4, h, w) latents of the masked image
    states: torch.Tensor  # (B, 77, width)


@dataclass
class Ways:
    """A student's ways from noise to its images, all with the same timesteps."""

    x: torch.Tensor  # (P, B, 4, h, w) noisy latents
    t: torch.Tensor  # (P,)
    made: torch.Tensor  # (P, B, 4, h, w) the clean latents that it sees in them
    drawn: torch.Tensor  # (B, 4, h, w) drawings' latents, of what was asked for
    asked: Asked


class Host:
    """One of the two bases, three times: as the teacher, as the student with its factors, and as the imitator."""

    def __init__(
        self, name: str, denoising: Denoising, *, least: int | None, factors: nn.ModuleDict | None = None
    ) -> None:
        self.cases = Cases(denoising, whole=BASES[name], least=least, size=BATCH[device().type])
        self.alphas, self.nothing = denoising.alphas, denoising.states([""])
        unets = (store.load_component(name, UNet2DConditionModel).to(device()).eval() for _ in range(3))
        self.teacher, self.student, self.imitator = unets
        self.teacher.requires_grad_(False)
        if factors is None:
            factorise(self.student, rank=RANK, frozen=APART)
        else:
            self.student.requires_grad_(False)
            for place, shared in factors.items():
                module = self.student.get_submodule(place.replace("/", "."))
                parametrize.register_parametrization(module, "weight", shared)
        for unet in (self.teacher, self.student, self.imitator):
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

    def noise(self, unet: nn.Module, x: torch.Tensor, t: torch.Tensor, asked: Asked) -> torch.Tensor:
        """The noise that a UNet sees in noisy latents; x (B, 4, h, w), t (B,)."""
        seen = x if unet.config["in_channels"] == 4 else torch.cat([x, asked.mask, asked.hidden], 1)
        with halved():
            return unet(seen, t, encoder_hidden_states=asked.states).sample.float()

    def guess(self, unet: nn.Module, x: torch.Tensor, t: torch.Tensor, asked: Asked) -> torch.Tensor:
        """The clean latents that it sees in them."""
        alpha = self.alphas[t].view(-1, 1, 1, 1)
        return (x - (1 - alpha).sqrt() * self.noise(unet, x, t, asked)) / alpha.sqrt()

    def guided(self, x: torch.Tensor, t: torch.Tensor, asked: Asked, scale: torch.Tensor) -> torch.Tensor:
        """The teacher's guess with guidance; scale (B, 1, 1, 1), as the pipelines' guidance_scale."""
        mask, hidden = (torch.cat([part] * 2) for part in (asked.mask, asked.hidden))
        states = torch.cat([self.nothing.expand_as(asked.states), asked.states])
        both = self.guess(self.teacher, torch.cat([x] * 2), t.repeat(2), Asked(mask, hidden, states))
        plain, told = both.chunk(2)
        return plain + scale * (told - plain)

    def noisy(self, z: torch.Tensor, t: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents with the noise of timesteps (B,), and that noise."""
        alpha, noise = self.alphas[t].view(-1, 1, 1, 1), torch.randn(z.shape, generator=generator).to(z)
        return alpha.sqrt() * z + (1 - alpha).sqrt() * noise, noise

    @torch.no_grad()
    def ways(self, generator: torch.Generator) -> Ways:
        """A batch of the student's ways, with fresh noise before each step, as LCMScheduler adds it."""
        drawn, *told = self.cases.batch(generator)
        asked, place = Asked(*told), GRID
        steps = STEPS[int(torch.randint(len(STEPS), (), generator=generator))]
        if torch.rand((), generator=generator) < LATER:
            place = int(torch.randint(1, GRID, (), generator=generator))
        times = torch.tensor([timestep(place - done * place // steps) for done in range(min(steps, place))])
        x, seen, made = drawn, [], []
        with parametrize.cached():
            for t in times:
                t = t.to(drawn.device).repeat(len(drawn))
                x, noise = self.noisy(x, t, generator)
                seen.append(noise if place == GRID and not seen else x)
                made.append(x := self.guess(self.student, seen[-1], t, asked))
        return Ways(torch.stack(seen), times, torch.stack(made), drawn, asked)

    def imitation(self, made: torch.Tensor, asked: Asked, generator: torch.Generator) -> torch.Tensor:
        """The imitator's error on what the student has made (B, 4, h, w)."""
        t = torch.randint(0, len(self.alphas), (len(made),), generator=generator).to(made.device)
        x, noise = self.noisy(made, t, generator)
        alpha = self.alphas[t]
        return epsilon_loss(self.noise(self.imitator, x, t, asked), noise, alpha / (1 - alpha), early=EARLY)

    def matching(self, made: torch.Tensor, asked: Asked, generator: torch.Generator) -> torch.Tensor:
        """A loss whose gradient leads from what the imitator sees in noisy `made` to what the guided teacher sees."""
        with torch.no_grad():
            t = torch.randint(*NOISE, (len(made),), generator=generator).to(made.device)
            low, high = GUIDANCE
            scale = low + (high - low) * torch.rand((len(made), 1, 1, 1), generator=generator).to(made)
            x, _ = self.noisy(made, t, generator)
            likely = self.guided(x, t, asked, scale)
            way = likely - self.guess(self.imitator, x, t, asked)
            end = made + way / (made - likely).abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-3)
        return ((made - end).square() / 2 * counting(asked.mask)).mean()


def timestep(place: int) -> int:
    """The timestep at a place of LCMScheduler's grid, 1 to GRID."""
    return place * (1000 // GRID) - 1


Picked = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, Asked]


def picked(kept: deque[Ways], generator: torch.Generator) -> Picked:
    """From all ways that are kept: x (B, 4, h, w), t (B,), made and drawn (B, 4, h, w), and what was asked."""
    size, chosen = BATCH[device().type], []
    for _ in range(parts := min(MIXED, size)):
        one = kept[int(torch.randint(0, len(kept), (), generator=generator))]
        p, b = (torch.randint(0, n, (size // parts,), generator=generator) for n in one.x.shape[:2])
        told = (one.asked.mask[b], one.asked.hidden[b], one.asked.states[b])
        chosen.append((one.x[p, b], one.t[p], one.made[p, b], one.drawn[b], *told))
    x, t, made, drawn, *told = (torch.cat(part) for part in zip(*chosen, strict=True))
    return x, t.to(x.device), made, drawn, Asked(*told)


def train(*, minutes: float, steps: int | None = None, resume: bool = False, least: int | None = None) -> None:
    """Train the LoRA at a constant, low rate: at 4e-4 the sharpness of its images came and went.

    resume: on from its last checkpoint, whose bases may have been trained on since, or else from what is shipped.
    least: as `Cases` has it.
    """
    with leader_first():
        denoising = Denoising()
        first, second = BASES
        hosts = [Host(first, denoising, least=least)]
        hosts.append(Host(second, denoising, least=least, factors=hosts[0].factors))
    if resume and store.shipped(NAME):
        take_up(hosts[0].factors)
    critic = Critic(latent=True)
    imitators = nn.ModuleList(host.imitator for host in hosts)
    modules = {"factors": hosts[0].factors, "critic": critic, "imitators": imitators}
    training = Training(NAME, modules, lr=1.5e-4, betas=(0.5, 0.99), ema_decay=0.998, weight_decay=0.0)
    if resume:
        training.resume()
    kept: list[deque[Ways]] = [deque(maxlen=KEPT) for _ in hosts]
    parts: dict[str, torch.Tensor] = {}

    def loss(generator: torch.Generator) -> torch.Tensor:
        turn, own = training.step // TURN % len(hosts), training.step % TURN
        host, mine = hosts[turn], kept[turn]
        if own == 0 or not mine:
            mine.append(host.ways(generator))
        x, t, made, drawn, asked = picked(mine, generator)
        teaches = own == TURN - 1 and training.step >= ALONE
        if teaches:
            made = host.guess(host.student, x, t, asked)
        critics, _, verdict = losses(critic, made, drawn)
        said = {"imitation": host.imitation(made.detach(), asked, generator), "critic": critics}
        if teaches:
            said |= {"matching": host.matching(made, asked, generator), "verdict": VERDICT * verdict}
        for key, value in said.items():
            parts[key] = parts.get(key, value.detach()).lerp(value.detach(), 0.02)
        return torch.stack(list(said.values())).sum()

    def export() -> None:
        save(hosts[0].student, training.average["factors"])
        told = {key: round(value.item(), 3) for key, value in parts.items()}
        print(f"\nstep {training.step}, {training.seconds / 60:.0f} minutes: {told}", flush=True)

    training.run(loss, minutes=minutes, steps=steps, rate=constant, on_checkpoint=export)
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
