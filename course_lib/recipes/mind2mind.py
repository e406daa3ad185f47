"""Training of the shipped MindGANs, and what notebook 10 compares them with: all layers in the game, and costs."""

import time
import timeit
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .. import mind2mind as mindgan
from ..data.avatars import fresh_kinds, fresh_people, load_kinds, load_people
from ..data.image_set import ImageSet
from ..data.people import STYLES
from ..errors import CourseError
from ..evaluation.scores import Judge, frechet_distance, judge_features
from ..experts.networks import GridAutoencoder
from ..experts.protocol import TargetExpert
from ..gan_training import latent_reciprocity, logistic_critic, logistic_generator, r1_penalty
from ..gans.alae import ALAE, PUBLISHED_ALAE, ALAEConfig
from ..mind2mind import MainDirections, MindConfig, MindMethod, StyleExpert, encode_set, load_halves
from ..profiles import seed_everything
from ..training.loop import train
from ..training.runs import Budget, Card, Method, frozen
from .recipe import Contender, Job, Look, compare, data_hash, kept, publish, publish_comparison

SOURCE = "avatar-alae"
SIZES = MindConfig(64, 64, (128, 256), (256, 128))
"""For codes of 64 numbers, an eighth of the published 512: narrower, too, and one layer less."""
LARGER = MindConfig(128, 64, (256, 512), (512, 256))
DISTANCE, READ = "Fréchet distance", "read as the target"


@dataclass(frozen=True)
class Target:
    """What a shipped MindGAN draws, and how it is trained."""

    kind: str  # of the kinds, or a style of people
    source: str  # the frozen expert
    directions: int  # main directions of its codes that are kept; 0 for the codes themselves
    sizes: MindConfig
    batch_size: int
    steps: int

    def train(self) -> ImageSet:
        """Training pictures."""
        if self.kind in STYLES:
            return load_people().part("train").where(style=self.kind)
        return load_kinds().part("train").where(kind=self.kind)

    def unseen(self) -> ImageSet:
        """Pictures that are in no file, drawn for scores: 792 people or 400 things."""
        draw, count = (fresh_people, 1) if self.kind in STYLES else (fresh_kinds, 400)
        return draw(count, 9, (self.kind,))

    def expert(self, device: str = "cpu") -> TargetExpert:
        """The frozen halves."""
        expert = load_halves(self.source, device)
        return MainDirections.fit(expert, self.train(), self.directions) if self.directions else expert


TARGETS = {
    # People in a style that the ALAE knows; in one that it does not, on an autoencoder; planets, on an autoencoder.
    "avatar-mind2mind": Target("micah", SOURCE, 0, SIZES, 128, 4000),
    "avatar-mind2mind-style": Target("big-smile", "avatar-autoencoder", 128, LARGER, 64, 2500),
    "avatar-mind2mind-far": Target("planets", "avatar-autoencoder", 64, SIZES, 64, 3000),
}


def train_mindgan(job: Job, name: str) -> Card:
    """A key of :data:`TARGETS`, with a moving average of the generator's weights, which the published code has not."""
    target = TARGETS[name]
    expert, data, unseen = target.expert(job.profile.device), target.train(), target.unseen()
    codes, held = encode_set(expert, data), encode_set(expert, unseen)
    recipe = {"batch_size": target.batch_size, "average": 0.99, "rate": 1e-3, "directions": target.directions}
    method = MindMethod(codes, target.sizes, held, recipe["rate"], average=recipe["average"])
    steps = job.profile.pick(quick=20, cpu=target.steps, gpu=4 * target.steps)
    history = job.run(name, method, target.batch_size, steps, last=True, checkpoint_every=0)
    gan = mindgan.TransferredGAN(history.averaged["generator"], expert, method.modules["critic"], codes)
    found = mindgan.score_transfer(gan, codes, unseen, judge_features(), job.seed)
    seen = Judge.load().predict(gan.sample(len(unseen), job.seed), "kind")
    config = {"source": target.source, "target": target.kind, "networks": vars(target.sizes)}
    card = Card(name, mindgan.MIND_KIND, config, recipe, data=data_hash(data))
    names = {"": "Mind2Mind", " of the ceiling": "ceiling", " of a Gaussian of the codes": "Gaussian"}
    card.metrics = {f"{DISTANCE}{end}": found[key] for end, key in (names | {" of codes": "codes"}).items()}
    card.metrics[READ] = (seen == load_kinds().classes["kind"].index(target.kind)).float().mean().item()
    card.notes = f"Generator (moving average) and critic; the frozen halves of {target.source} are not in it."
    return publish(job, card, mindgan.mindgan_tensors(gan), history, DISTANCE, bits=16)


# --- the whole GAN ----------------------------------------------------------------------------------------------------


def _trainable(expert: StyleExpert, seed: int | None) -> StyleExpert:
    """A copy to train: with the expert's weights, or with random ones of ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        new = StyleExpert(ALAE(expert.alae.config), GridAutoencoder(expert.autoencoder.config))
    if seed is None:
        new.load_state_dict(expert.state_dict())
    return new.to(memory_format=torch.channels_last)


class _Whole(nn.Module):
    """g₁ ∘ g₀: noise ``(B, noise)`` → pictures ``(B, 3, S, S)``, not clamped, in training with fresh noise maps; or
    c₀ ∘ c₁: pictures → scores ``(B,)``. Batch norms may keep their running statistics in training."""

    def __init__(self, small: nn.Module, large: StyleExpert, batch_statistics: bool = False):
        super().__init__()
        self.small, self.large, self.batch_statistics = small, large, batch_statistics

    def train(self, mode: bool = True) -> "_Whole":
        super().train(mode)
        for module in self.large.modules():
            if isinstance(module, nn.BatchNorm2d) and not self.batch_statistics:
                module.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.small, mindgan.MindCritic):
            return self.small(self.large.read(x))
        return self.large.render(self.small(x), self.training)


class WholeMethod(mindgan.WassersteinMethod):
    """MindGAN's game, every layer trained, on pictures: g = g₁ ∘ g₀ against c = c₀ ∘ c₁, the penalty by pixels. Image
    layers have the settings of Gulrajani et al. 2017 for pictures, Adam 1e-4, (0, 0.9), and start as a copy of the
    expert's, or from random weights of ``seed``, as the part of the sizes ``mind`` does. Batch norms of the critic
    never look at the batch, for the penalty is on the gradient of each picture by itself; those of the generator do
    unless it starts from an expert, whose statistics belong to it. ``game`` goes to :class:`WassersteinMethod`."""

    moved = ("data",)

    def __init__(
        self, data: ImageSet, expert: StyleExpert, mind: MindConfig, fine_tuned: bool = True, seed: int = 0, **game: Any
    ):
        generator, critic = (_trainable(expert, None if fine_tuned else seed + k) for k in (0, 1))
        # Only the halves that are used, so that Adam and the moving average carry nothing else.
        del generator.alae.encoder, generator.alae.score, generator.alae.generator.mapping
        del critic.alae.generator, critic.alae.score
        decoder, encoder = generator.autoencoder, critic.autoencoder
        del decoder.encoder, decoder.linear_in, decoder.to_posterior
        del encoder.from_latent, encoder.linear_out, encoder.decoder, encoder.to_image
        whole = _Whole(mindgan.MindGenerator(mind), generator, not fine_tuned)
        super().__init__(whole, _Whole(mindgan.MindCritic(mind), critic), mind, **game)
        self.data, self.size, self.length = data, expert.config.size, len(data)
        for name, network in self.modules.items():
            parts = (network.large, 1e-4), (network.small, 1e-3)
            groups = [{"params": list(part.parameters()), "lr": its_rate} for part, its_rate in parts]
            self.optimizers[name] = torch.optim.Adam(groups, betas=(0.0, 0.9), fused=True)

    def batch(self, index: Tensor, generator: torch.Generator) -> Tensor:
        return self.data.batch(index, self.size)

    @staticmethod
    @torch.no_grad()
    def sample(network: nn.Module, z: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1] on the CPU, of a generator in evaluation mode."""
        device = next(network.parameters()).device
        return torch.cat([network(part.to(device)).float().clamp(-1, 1).cpu() for part in z.split(100)])


# --- what a step costs ------------------------------------------------------------------------------------------------

Clock = Callable[[], float]
BATCHES = {64: 8, 128: 4, 256: 2, 512: 1, 1024: 1}
"""Size in pixels → pictures in the whole GAN's step: what a few GB of memory hold."""


def config_at(size: int) -> ALAEConfig:
    """ALAE's FFHQ model at the level of detail of ``size`` pixels; a CourseError where it has none."""
    published = PUBLISHED_ALAE["ffhq"]
    level = size.bit_length() - 2
    if size != 2 ** (level + 1) or not 2 <= level <= len(published.channels):
        raise CourseError(f"the FFHQ model grows through 8, 16, …, {published.size} pixels, not {size}.")
    return replace(published, channels=published.channels[:level])


def _passes(losses: Callable[[], Iterable[Tensor]], networks: Iterable[nn.Module]) -> Callable[[], None]:
    def run() -> None:
        for loss in losses():
            loss.backward()
            for network in networks:
                network.zero_grad(set_to_none=True)

    return run


def alae_iteration(network: ALAE, images: Tensor) -> Callable[[], None]:
    """A function that runs ALAE's three steps on images ``(B, colours, S, S)`` of any device, without optimisers."""
    generator, encoder, score = network.generator, network.encoder, network.score
    z = torch.randn(len(images), network.latent_dim, device=images.device)
    noise = [torch.randn(len(images), 2, b.size, b.size, device=images.device) for b in generator.decoder.blocks]

    def losses() -> Iterator[Tensor]:
        with torch.no_grad():
            fake, _ = generator(z, noise)
        real = images.detach().requires_grad_()
        on_real = score(encoder(real))
        yield logistic_critic(on_real, score(encoder(fake))) + 5.0 * r1_penalty(on_real, real)
        with frozen(encoder), frozen(score):
            yield logistic_generator(score(encoder(generator(z, noise)[0])))
        picture, w = generator(z, noise)
        yield latent_reciprocity(encoder(picture), w)

    return _passes(losses, [network])


def mind_iteration(config: MindConfig, batch_size: int) -> Callable[[], None]:
    """The same for MindGAN: five critic steps with their penalty, one of the generator."""
    method = MindMethod(torch.randn(batch_size, config.latent), config)
    return method_iteration(method, method.codes)


def method_iteration(method: Method, batch: Any) -> Callable[[], None]:
    """The same for any method: all its phases on one ``batch``."""
    draws = torch.Generator().manual_seed(0)
    return _passes(lambda: (loss.value for loss in method.losses(batch, draws, 0)), method.modules.values())


class _Counter(TorchDispatchMode):
    """PyTorch's formulas without its bookkeeping of modules, which penalties inside a backward pass confuse."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def count_flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of one call: products and convolutions only, a product and its sum are two."""
    with _Counter() as counter:
        run()
    return counter.total


def iteration_flops(size: int) -> tuple[int, int]:
    """Operations of one iteration a picture: ALAE at ``size`` pixels, the published MindGAN on its codes."""
    with torch.device("meta"):
        run = alae_iteration(ALAE(config_at(size)), torch.empty(1, 3, size, size))
    return count_flops(run), count_flops(mind_iteration(MindConfig(), 1))


def iteration_seconds(run: Callable[[], None], repeats: int = 3, clock: Clock = time.perf_counter) -> float:
    """The shortest of ``repeats`` calls of ``run`` after one that warms up, in seconds of ``clock``."""
    return min(timeit.repeat(run, timer=clock, repeat=repeats + 1, number=1)[1:])


def measure_step(size: int, rounds: int = 3, clock: Clock = time.perf_counter) -> dict[str, float]:
    """Seconds and operations of one step of a whole GAN and of MindGAN, both with random weights, published shapes.

    The whole GAN is ALAE's FFHQ model at the level of detail of ``size`` pixels, a key of :data:`BATCHES`; the faster
    of float32 and bfloat16 autocast counts. MindGAN's step is measured with as many codes and, as published, with 128.

    Returns:
        ``batch``; seconds a step ``whole, float32``, ``whole, bfloat16``, ``MindGAN`` (as many codes), ``MindGAN at
        128``; ``ratio a step``, ``ratio a picture``; a picture's ``whole: operations``, ``MindGAN: operations``.
    """
    batch, found = BATCHES[size], {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, images = ALAE(config_at(size)), torch.randn(batch, 3, size, size)
        run = alae_iteration(network.to(memory_format=torch.channels_last), images)
        found["whole, float32"] = iteration_seconds(run, rounds, clock)
        with torch.autocast("cpu", torch.bfloat16):
            found["whole, bfloat16"] = iteration_seconds(run, rounds, clock)
        best = min(found.values())
        for name, count in (("MindGAN", batch), ("MindGAN at 128", 128)):
            found[name] = iteration_seconds(mind_iteration(MindConfig(), count), max(rounds, 5), clock)
    found["ratio a step"] = best / found["MindGAN"]
    found["ratio a picture"] = (best / batch) / (found["MindGAN at 128"] / 128)
    found["whole: operations"], found["MindGAN: operations"] = iteration_flops(size)
    return {"batch": batch, **found}


def warm_up(device: str) -> None:
    """One step of a MindGAN: what is loaded at the first one counts for nobody."""
    method = MindMethod(torch.zeros(4, SIZES.latent), SIZES)
    train(method, Budget(1), 4, accelerator=device, checkpoint_every=0, preview_every=0, progress=False)


# --- the comparison ---------------------------------------------------------------------------------------------------

NAME = "avatar-mind2mind-comparison"
_FEW, _MANY = (6, 12, 25, 50, 100, 200, 400, 800, 1200, 1600), tuple(16 * 2**k for k in range(9))
_RIVAL = {"batch_size": 16, "stops": _FEW, "precision": "bf16-mixed", "average": 0.98, "seeds": 1}
_OURS = {"batch_size": 128, "stops": _MANY, "precision": "32-true", "average": 0.99, "seeds": 3}
WAYS: dict[str, dict[str, Any]] = {
    "MindGAN": {"fine_tuned": None, **_OURS},
    "whole GAN, fine-tuned": {"fine_tuned": True, **_RIVAL},
    "whole GAN, from scratch": {"fine_tuned": False, **_RIVAL},
}
"""Ways to a GAN of the target. ``fine_tuned``: whether image layers start from the expert's weights; None for MindGAN,
which trains none, and whose small products gain nothing from half precision. The rivals have the settings of Gulrajani
et al. 2017, but for the batch: 16 instead of 64 pictures give them four times as many steps in their time."""


def train_mind2mind_comparison(job: Job) -> Card:
    """All ways side by side on one machine; seconds and operations of MindGAN include what encoding took."""
    device, target = job.profile.device, TARGETS["avatar-mind2mind"]
    expert, judge, data = load_halves(SOURCE, device), Judge.load(), target.train()
    config, kind = replace(SIZES, latent=expert.latent_dim), data.classes["style"].index("micah")
    codes, real = encode_set(expert, data), torch.cat(list(target.unseen().batches(250)))
    wanted, _ = judge.read(real)

    def score(pictures: Tensor) -> dict[str, float]:
        features, seen = judge.read(pictures)
        return {DISTANCE: frechet_distance(wanted, features), READ: (seen["kind"] == kind).float().mean().item()}

    def build(way: dict[str, Any], seed: int) -> tuple[MindMethod | WholeMethod, Look]:
        seed_everything(seed)
        small = way["fine_tuned"] is None

        def look(network: nn.Module, stop: int) -> tuple[Tensor, dict[str, float]]:
            z = mindgan.uniform_noise(len(real), config, torch.Generator().manual_seed(0))
            drawn = expert.decode(network(z.to(device))).cpu() if small else WholeMethod.sample(network, z)
            return drawn, score(drawn)

        if small:
            return MindMethod(codes, config, average=way["average"]), look
        return WholeMethod(data, expert, config, way["fine_tuned"], seed, average=way["average"]), look

    warm_up(device)
    contenders = []
    for name, way in WAYS.items():
        stops = way["stops"][: job.profile.pick(quick=2, cpu=None, gpu=None)]
        line = Contender(name, partial(build, way), way["batch_size"], way["seeds"], stops, way, way["precision"])
        contenders.append(line)
    results = compare(job, NAME, contenders, shown=12)
    encoding = kept(job.work / NAME / "encoding.json", lambda: _encoding(job, expert, data))
    card = Card(NAME, "comparison", {"source": SOURCE, "target": "micah", **vars(config)}, metrics=dict(encoding))
    some = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: len(real)]
    shown = {"ceiling": expert.decode(codes[some])}
    shown["training pictures"] = torch.cat(list(data.subset(some).batches(250)))
    for name, pictures in shown.items():
        card.metrics |= {f"{name}: {key}": value for key, value in score(pictures).items()}
    for size in job.profile.pick(quick=[64], cpu=BATCHES, gpu=BATCHES):
        path = job.work / NAME / f"{size}-pixels.json"
        row = kept(path, lambda size=size: measure_step(size, 3 if size < 256 else 1, job.clock))
        card.metrics |= {f"{size} px: {name}": value for name, value in row.items()}
    for one in contenders:
        if one.name in results:
            card.metrics |= _with_costs(one, results[one.name], encoding if one.name == "MindGAN" else {})
    card.data = data_hash(data)
    card.notes = f"{DISTANCE}s: judge features, as many samples as there are new people in the target style."
    return publish_comparison(job, card, results, f"MindGAN: {DISTANCE}")


def _with_costs(one: Contender, repeated: list[dict[str, Any]], before: dict[str, float]) -> dict[str, float]:
    """Adds operations to the results of a way, and what came before its training; returns metrics of one step."""
    method, _ = one.build(0)
    batch = method.batch(torch.arange(4), torch.Generator())
    operations = count_flops(method_iteration(method, batch)) / 4 * one.batch_size
    a_step = repeated[0]["seconds"][-1] / repeated[0]["steps"][-1]
    started = before.get("encoding: operations", 0.0)
    for found in repeated:
        found["seconds"] = [value + before.get("encoding: seconds", 0.0) for value in found["seconds"]]
        found["scores"]["operations"] = [steps * operations + started for steps in found["steps"]]
    numbers = sum(p.numel() for module in method.modules.values() for p in module.parameters())
    found = {"operations a step": operations, "trained numbers": numbers, "seconds a step": a_step}
    return {f"{one.name}: {key}": value for key, value in found.items()}


def _encoding(job: Job, expert: StyleExpert, data: ImageSet) -> dict[str, float]:
    """Seconds and operations of encoding the target, measured without the cache."""
    with TemporaryDirectory() as folder:
        started = job.clock()
        encode_set(expert, data, Path(folder), progress=False)
        seconds = job.clock() - started
    batch = data.batch(torch.arange(4), expert.config.size).to(job.profile.device)
    operations = count_flops(lambda: expert.encode(batch)) / 4 * len(data)
    return {"encoding: seconds": seconds, "encoding: operations": operations}
