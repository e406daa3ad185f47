"""Net2Net in one file: a translator, which is a conditional flow between a frozen source expert and a frozen target
expert; the training of its flow, and of the regressor it is compared with, on pairs that were encoded once; scores of
translations on held-out pictures. The source decides what a translation keeps (paper §4, figures 4 to 12); target
expert and latents stay. A source is any layer of any frozen expert, of the picture or of a changed copy of it; or few
pixels."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cinn.flow import ConditionalFlow, GridFlow, GridFlowConfig, flow_loss
from ..cinn.layers import LEAKY_SLOPE, GridEmbedder
from ..data.image_set import ImageSet, displacements, grey, grey_square, resize, warp
from ..data.people import ATTRIBUTES
from ..errors import CourseError
from ..evaluation.scores import Judge, diversity, frechet_distance, nearest
from ..experts.networks import GridAutoencoder, GridExpert, LayerExpert
from ..experts.protocol import SourceExpert, TargetExpert, load_expert
from ..training.runs import Loss, Method


class Translator:
    """Net2Net: samples pictures of the target domain for inputs of the source domain (Rombach et al. 2020, §3). The
    residual ``v`` is what the latent has beyond the condition, standard normal and, once trained, independent of it."""

    def __init__(self, source: SourceExpert, flow: ConditionalFlow | GridFlow, target: TargetExpert):
        if flow.config.dim != target.latent_dim or flow.config.condition_shape != tuple(source.condition_shape):
            given = f"({target.latent_dim},) and {tuple(source.condition_shape)}"
            wanted = f"({flow.config.dim},) under conditions {flow.config.condition_shape}"
            raise CourseError(f"the flow maps latents {wanted}, but the experts give {given}: build it for these.")
        self.source, self.flow, self.target = source, flow.eval(), target

    @torch.no_grad()
    def translate(
        self, x: Any, samples: int = 1, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws pictures ``(B, samples, 3, S, S)`` in [−1, 1] for source inputs: pictures, captions, labels. Sample
        ``k`` of every input shares its residual ``v``; ``temperature`` is the standard deviation of ``v``."""
        device = generator.device if generator is not None else next(self.flow.parameters()).device
        v = torch.randn(samples, self.flow.config.dim, generator=generator, device=device)
        return self.render(temperature * v, x)

    @torch.no_grad()
    def render(self, v: Tensor, x: Any) -> Tensor:
        """Pictures ``(B, samples, 3, S, S)`` for every input under every given residual ``v: (samples, D)``."""
        condition = self.source.encode(x)
        many = v.to(condition.device).repeat(len(condition), 1)
        pictures = self.decode(self.flow.inverse(many, condition.repeat_interleave(len(v), 0)))
        return pictures.unflatten(0, (len(condition), len(v)))

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Pictures ``(B, 3, S, S)`` of latents ``(B, D)``, some at a time."""
        return torch.cat([self.target.decode(part) for part in latent.split(256)])

    @torch.no_grad()
    def residual(self, y: Tensor, x: Any) -> Tensor:
        """``v (B, D)`` of target pictures ``y`` under their own inputs ``x``: what the condition does not say."""
        return self.flow.encode(self.target.encode(y), self.source.encode(x))

    @torch.no_grad()
    def transfer(self, y: Tensor, x_own: Any, x_other: Any) -> Tensor:
        """Exemplar-guided synthesis: residual of ``y``, condition of ``x_other``; ``(B, 3, S, S)``."""
        return self.target.decode(self.flow.inverse(self.residual(y, x_own), self.source.encode(x_other)))


@torch.no_grad()
def cross_grid(translator: Translator, latent: Tensor, condition: Tensor) -> Tensor:
    """Residual of picture i under the condition of picture j, for all: ``(N, N, 3, S, S)`` (paper §4.5 and §4.6)."""
    count, flow = len(latent), translator.flow
    v = flow.encode(latent, condition).repeat_interleave(count, 0)
    moved = flow.inverse(v, condition.repeat(count, *[1] * (condition.ndim - 1)))
    return translator.decode(moved).unflatten(0, (count, count))


WARP_STRENGTH = 2.0
"""Twice the released code's."""

_MOST_NEIGHBOURS = 800


class LowResolution:
    """Source expert: a picture of any size, shrunk to ``size`` pixels, and encoded by ``autoencoder`` as in the paper;
    without one the shrunk picture is the condition. The kernel ``area`` averages; ``nearest`` keeps one pixel of each
    square, as the released code does, whose own autoencoder has never seen that."""

    def __init__(self, size: int, autoencoder: SourceExpert | None = None, kernel: str = "area"):
        if kernel not in ("area", "nearest"):
            raise CourseError(f"there is no kernel {kernel!r}: choose area or nearest.")
        self.size, self.autoencoder, self.kernel = size, autoencoder, kernel
        self.condition_shape = (3, size, size) if autoencoder is None else autoencoder.condition_shape

    def shrink(self, x: Tensor) -> Tensor:
        if self.kernel == "nearest" and x.shape[-1] != self.size:
            return F.interpolate(x, (self.size, self.size), mode="nearest")
        return resize(x, self.size)

    def encode(self, x: Tensor) -> Tensor:
        small = self.shrink(x)
        return small.detach() if self.autoencoder is None else self.autoencoder.encode(small)


def enlarge(pictures: Tensor, size: int) -> Tensor:
    """Enlarges ``(B, 3, s, s)`` without any learning: bicubic, clamped to [−1, 1]."""
    return F.interpolate(pictures, (size, size), mode="bicubic", align_corners=False).clamp(-1, 1)


class TransformedExpert:
    """A source expert that gets what ``transform`` makes of pictures ``(B, 3, S, S)`` in [−1, 1], or other input."""

    def __init__(self, expert: SourceExpert, transform: Callable[[Any], Any]):
        self.expert, self.transform, self.condition_shape = expert, transform, expert.condition_shape

    def encode(self, x: Any) -> Tensor:
        return self.expert.encode(self.transform(x))


class ColourPresence:
    """Which colours there are, but not where and how much of them: ``(B, 64)`` in [0, 1]. Every place of the picture,
    averaged to 16×16, belongs to the nearest points of a 4×4×4 lattice of colours; each keeps its strongest share."""

    condition_shape = (64,)

    def encode(self, x: Tensor) -> Tensor:
        places = F.adaptive_avg_pool2d(x, 16).flatten(2)[..., None]
        shares = (1 - (places - torch.linspace(-1, 1, 4).to(x)).abs() * 1.5).clamp_min(0)
        return torch.einsum("bni,bnj,bnk->bnijk", *shares.unbind(1)).amax(1).flatten(1)


class PooledSource:
    """Source expert: another expert's output, averaged to few places and standardised by channel or coordinate, by the
    ``mean`` and ``deviation`` of training pictures. Maps keep as many places as the target's grid has cells, or twice
    as many along each side where the neighbourhood of a cell stays small."""

    def __init__(self, expert: SourceExpert, condition_shape: tuple[int, ...], mean: Tensor, deviation: Tensor):
        self.expert, self.condition_shape = expert, tuple(condition_shape)
        self.mean, self.deviation = mean, deviation

    @classmethod
    def fit(cls, expert: SourceExpert, output: Tensor, side: int) -> "PooledSource":
        """From the expert's output for training pictures; the target's latent has ``side`` cells along one side."""
        shape, axes = tuple(output.shape[1:]), (0, 2, 3) if output.ndim == 4 else 0
        if output.ndim == 4:
            fine = shape[0] * 4**2 <= _MOST_NEIGHBOURS and 2 * side <= shape[1]
            shape = (shape[0], *[2 * side if fine else side] * 2)
            output = F.adaptive_avg_pool2d(output, shape[1:])
        # What hardly varies is not blown up: its standard deviation counts as a twentieth of the mean one at least.
        std = output.std(axes, keepdim=True)
        return cls(expert, shape, output.mean(axes, keepdim=True), std.clamp_min(0.05 * std.mean() + 1e-6))

    def transformed(self, transform: Callable[[Tensor], Tensor]) -> "PooledSource":
        return PooledSource(TransformedExpert(self.expert, transform), self.condition_shape, self.mean, self.deviation)

    def pool(self, output: Tensor) -> Tensor:
        """The expert's output, ``(B, C, H, W)`` averaged to few places; pooling twice changes nothing more."""
        return F.adaptive_avg_pool2d(output, self.condition_shape[1:]) if output.ndim == 4 else output

    def pooled(self, x: Tensor) -> Tensor:
        """The expert's pooled output for images in [−1, 1], not standardised."""
        return self.pool(self.expert.encode(x))

    def standardise(self, output: Tensor) -> Tensor:
        return (self.pool(output) - self.mean) / self.deviation

    def encode(self, x: Tensor) -> Tensor:
        return self.standardise(self.expert.encode(x))


def _changed(transform: Callable[[Tensor], Tensor]) -> Callable[[Any], SourceExpert]:
    return lambda device: TransformedExpert(GridExpert(load_expert("avatar-autoencoder", device)), transform)


def _layer(network: str, layer: str) -> Callable[[Any], SourceExpert]:
    return lambda device: LayerExpert(load_expert(network, device), layer)


def _appearance(device: str | torch.device) -> SourceExpert:
    generator = torch.Generator().manual_seed(0)
    return TransformedExpert(ColourPresence(), lambda x: warp(x, displacements(len(x), generator, WARP_STRENGTH)))


SOURCES: dict[str, Callable[[str | torch.device], SourceExpert]] = {
    "colourisation": _changed(grey),
    "inpainting": _changed(grey_square),
    **{f"segmenter-{name}": _layer("avatar-segmenter", name) for name in ("early", "middle", "logits", "argmax")},
    **{f"edges-{kind}": _layer(f"classifier-{kind}", "middle") for kind in ("shape", "texture")},
    "shape-appearance": _appearance,
}
"""Name of a shipped translator → its source expert on a device, before pooling."""


LATENT_NOISE = 0.2
"""Standard deviation of the noise on the latents that flows are trained on; their own is 1 to 2. The decoder hardly
shows it (34 dB with it, 37 without); without it a flow spends itself on the finest digits."""


@dataclass(frozen=True)
class Pairs:
    """Conditions and latents of the same pictures."""

    condition: Tensor  # (N, *condition_shape)
    mean: Tensor  # (N, D), of the target posterior; a latent is drawn from it at every step, which keeps a flow on few
    std: Tensor  # (N, D), pictures from learning them by heart

    def __post_init__(self) -> None:
        if not len(self.condition) == len(self.mean) == len(self.std):
            counts = f"{len(self.condition)}, {len(self.mean)} and {len(self.std)}"
            raise CourseError(f"pairs need one condition, mean and standard deviation for each picture, not {counts}.")

    def __len__(self) -> int:
        return len(self.mean)

    @classmethod
    def join(cls, parts: Sequence["Pairs"]) -> "Pairs":
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("condition", "mean", "std")))

    def to(self, device: torch.device | str) -> "Pairs":
        return Pairs(self.condition.to(device), self.mean.to(device), self.std.to(device))

    def latents(self, seed: int = 0) -> Tensor:
        """One sample of every picture's posterior, ``(N, D)``; the same seed gives the same latents on every device."""
        return self.draw(slice(None), torch.Generator().manual_seed(seed))

    def draw(self, index: Tensor | slice, generator: torch.Generator) -> Tensor:
        """Samples of the posteriors at ``index``, ``(B, D)``, with noise from a CPU ``generator``."""
        mean = self.mean[index]
        return mean + torch.randn(mean.shape, generator=generator).to(mean) * self.std[index]


@torch.no_grad()
def encode_pairs(
    data: ImageSet, condition: Callable[[Tensor], Tensor], target: GridAutoencoder, noise: float = 0.0
) -> Pairs:
    """Both experts' answers to all pictures; ``noise`` is the deviation of noise on latents, :data:`LATENT_NOISE`."""
    if not len(data):
        raise CourseError("there is nothing to encode: the set has no picture.")
    device = next(target.parameters()).device
    parts = []
    for images in data.batches(200):
        images = images.to(device)
        posterior = target.posterior(images)
        parts.append(Pairs(condition(images), posterior.mean, posterior.std(noise)))
    return Pairs.join(parts)


class FlowMethod(Method):
    """Conditional maximum likelihood (paper eq. 5): the loss bounds what ``v`` keeps of the condition. Logs
    ``loss/flow`` (the total) and ``nll``, both without the constant D/2 · log 2π. In healthy training ``nll`` settles
    near D/2, where it is for Gaussian noise, while the total keeps falling.

    ``rate`` and ``weight_decay`` are AdamW's: its largest learning rate, and the decay of weight matrices, which
    matters on few pictures. The loss of ``held``, pairs that are never trained on, is logged as ``held-out`` every
    ``held_every`` steps, of which ``log_every`` of the loop is a multiple."""

    name, moved, held_every = "flow", ("pairs", "held"), 100

    def __init__(
        self, pairs: Pairs, network: nn.Module, rate: float = 1e-3, weight_decay: float = 0.0, held: Pairs | None = None
    ):
        super().__init__()
        self.pairs, self.held, self.length, self.modules = pairs, held, len(pairs), {self.name: network}
        # Only matrices decay: a scale of ActNorm that is pulled to zero would be paid for in the log-determinant.
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for key, parameter in network.named_parameters():
            groups[key.endswith("weight")].append(parameter)
        parts = [{"params": groups[True], "weight_decay": weight_decay}, {"params": groups[False], "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(parts, rate, (0.9, 0.99), fused=True)
        self.optimizers, self.ema = {self.name: optimizer}, {self.name: 0.995}

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = index.to(self.device)
        return self.pairs.draw(index, generator), self.pairs.condition[index].float()

    def loss(self, network: nn.Module, latent: Tensor, condition: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimised, and further numbers to log."""
        v, log_det = network(latent, condition)
        return flow_loss(v, log_det), {"nll": 0.5 * v.square().sum(1).mean()}

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        value, scalars = self.loss(self.modules[self.name], *batch)
        if self.held is not None and (step + 1) % self.held_every == 0:  # at the last step before a number is logged
            network = self.unwrapped(self.name)
            was_training = network.training
            with torch.no_grad():
                scalars["held-out"], _ = self.loss(network.eval(), self.held.latents(), self.held.condition.float())
            network.train(was_training)
        yield Loss(self.name, value, scalars)

    def learning_rate(self, progress: float) -> float:
        """A short warm-up, then half a cosine down to a fiftieth."""
        return min(1.0, progress / 0.02 + 0.02) * (0.51 + 0.49 * math.cos(math.pi * progress))

    def fit_residual_shift(self, flow: GridFlow, seed: int = 0, features: bool = False) -> None:
        """:meth:`GridFlow.fit_residual_shift` on all pairs as they are trained on, several latents of each; with
        ``features`` on random features of the condition, too."""
        generator, rows = torch.Generator().manual_seed(seed), torch.arange(len(self.pairs)).split(500)
        draws = max(4, 20_000 // len(self.pairs))  # few pairs would leave the noise of their latents in the fit
        batches = (self.batch(index, generator) for _ in range(draws) for index in rows)
        flow.fit_residual_shift(batches, *((1e-2, self.pairs.condition) if features else ()))


class RegressorMethod(FlowMethod):
    """The same with the mean squared error on latents, summed over coordinates."""

    name = "regressor"

    def loss(self, network: nn.Module, latent: Tensor, condition: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return (network(condition) - latent).square().sum(1).mean(), {}


@torch.no_grad()
def residuals(flow: ConditionalFlow | GridFlow, pairs: Pairs, seed: int = 0) -> Tensor:
    """``v (N, D)`` of one latent drawn from every posterior."""
    drawn = zip(pairs.latents(seed).split(1000), pairs.condition.split(1000), strict=True)
    return torch.cat([flow.encode(z, condition.float()) for z, condition in drawn])


@torch.no_grad()
def held_out_nats(flow: ConditionalFlow | GridFlow, pairs: Pairs, seed: int = 0) -> float:
    """Mean negative conditional log-likelihood in nats a picture, with the constant D/2 · log 2π; lower is better. One
    latent is drawn from every posterior, as in training: a flow has not seen the posterior's mean alone."""
    drawn = zip(pairs.latents(seed).split(1000), pairs.condition.split(1000), strict=True)
    return -sum(flow.log_prob(z, condition.float()).sum().item() for z, condition in drawn) / len(pairs)


def choice_flow(pairs: Pairs, target: GridAutoencoder, seed: int = 0, ridge: float = 0.01, **sizes: Any) -> GridFlow:
    """An untrained flow for ``pairs`` with the linear start; ``sizes`` replace those of :class:`GridFlowConfig`."""
    small = {"hidden_dim": 24, "blocks": 4, "embedding_dim": 16}
    shape = tuple(pairs.condition.shape[1:])
    config = GridFlowConfig(target.config.channels, target.config.side, shape, **small | sizes)
    flow = GridFlow(config, torch.Generator().manual_seed(seed))
    flow.fit_shift(pairs.mean.cpu(), pairs.condition.cpu(), ridge)
    return flow


class GridRegressor(nn.Module):
    """The paper's baseline, a network from condition to latent, which has no residual and so gives one answer. It uses
    the flow's embedder and linear start, then three 3×3 convolutions of ``width`` channels. A fully connected net, as
    in the paper, would have to learn every cell anew, and would be no match for a flow whose cells share weights."""

    def __init__(self, config: GridFlowConfig, width: int = 64):
        super().__init__()
        self.config, self.width = config, width
        shape, side = config.condition_shape, config.side
        if len(shape) == 3:
            first, self.embedder = width, GridEmbedder(shape, width, side)
        else:
            # Every cell reads a vector in its own way: convolutions alone would answer with the same in all of them.
            first = 16
            self.embedder = nn.Sequential(nn.Linear(shape[0], first * side**2), nn.Unflatten(1, (first, side, side)))
        self.shift = config.linear_start()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((first, width, width, config.channels)):
            layers += [nn.LeakyReLU(LEAKY_SLOPE), nn.Conv2d(inputs, outputs, 3, 1, 1)]
        self.net = nn.Sequential(*layers[1:])

    def forward(self, condition: Tensor) -> Tensor:
        embedded = self.embedder(condition)
        embedded = embedded[0] if isinstance(embedded, tuple) else embedded
        return self.shift.inverse(self.net(F.leaky_relu(embedded, LEAKY_SLOPE)).flatten(1), condition)

    def fit_shift(self, latent: Tensor, condition: Tensor, ridge: float = 1e-3) -> None:
        """Sets the linear map to the least-squares fit on pairs, before training; the net then begins at zero."""
        self.shift.fit(latent, condition, ridge)
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)


class ExperimentData:
    """What translators into one target are scored on: ``(N, 3, S, S)`` pictures, latents, features ``(N, F)``."""

    def __init__(self, target: GridAutoencoder, judge: Judge, held: ImageSet):
        self.target, self.judge, self.held = target, judge, held
        self.latents = encode_pairs(held, lambda x: x.new_zeros(len(x), 0), target, LATENT_NOISE)
        self.real = torch.cat(list(held.batches(250))).to(next(target.parameters()).device)
        self.features = judge.features(self.real)

    @torch.no_grad()
    def pairs(self, source: SourceExpert) -> Pairs:
        return Pairs(torch.cat([source.encode(x) for x in self.real.split(250)]), self.latents.mean, self.latents.std)


@torch.no_grad()
def score_pictures(data: ExperimentData, pictures: Tensor, condition: Tensor, source: SourceExpert) -> dict[str, float]:
    """Scores of translations ``(N, samples, 3, S, S)``, on the CPU, drawn under the source's ``condition (N, …)``. Of
    the first sample of each input: ``frechet`` distance to the real pictures; ``accuracy``, the share of attributes
    that the judge reads right; ``consistency``, the share of the condition's variance that the source finds in the
    translations; ``psnr`` to the real picture in dB, peak 2. Of the samples of one input, 0 where there is one:
    ``diversity``, mean feature distance; ``pixel_spread``, root mean square difference, in [0, 2]."""
    first, device = pictures[:, 0].to(data.real.device), data.real.device
    features = data.judge.features(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
    heads, seen = data.judge.network.heads, features[:, 0].to(device)
    labels = [label for label in ATTRIBUTES if label in heads and label in data.held.labels]
    right = [heads[label](seen).argmax(1).cpu() == data.held.labels[label] for label in labels]
    again = torch.cat([source.encode(x) for x in first.split(250)])
    several = pictures.shape[1] > 1
    return {
        "frechet": frechet_distance(data.features, features[:, 0]),
        "accuracy": torch.stack(right).float().mean().item(),
        "consistency": explained(condition.flatten(1), again.flatten(1)),
        "diversity": diversity(features) if several else 0.0,
        "pixel_spread": (pictures[:, 0] - pictures[:, 1]).square().mean().sqrt().item() if several else 0.0,
        "psnr": (10 * (4.0 / (data.real - first).square().mean().clamp_min(1e-10)).log10()).item(),
    }


Scored = tuple[Tensor, dict[str, float]]
"""Translations ``(N, samples, 3, S, S)``, and their scores by name."""


@torch.no_grad()
def score_choice(
    data: ExperimentData, translator: Translator, samples: int = 2, temperature: float = 1.0, seed: int = 0
) -> Scored:
    """Of the held-out pictures: :func:`score_pictures` and ``nats``."""
    pairs = data.pairs(translator.source)
    many = pairs.condition.repeat_interleave(samples, 0)
    latent = translator.flow.sample(many, temperature, torch.Generator().manual_seed(seed))
    pictures = translator.decode(latent).cpu().unflatten(0, (len(pairs), samples))
    scores = score_pictures(data, pictures, pairs.condition, translator.source)
    return pictures, scores | {"nats": held_out_nats(translator.flow, pairs)}


@torch.no_grad()
def score_regressor(data: ExperimentData, regressor: GridRegressor, source: SourceExpert) -> Scored:
    """The same for the paper's baseline with its one answer; ``error`` is the squared one of the latent, a picture."""
    condition = data.pairs(source).condition
    latent = torch.cat([regressor(part) for part in condition.split(250)])
    pictures = torch.cat([data.target.decode(part).cpu() for part in latent.split(250)])[:, None]
    error = (data.latents.mean - latent).square().sum(1).mean().item()
    return pictures, {"error": error} | score_pictures(data, pictures, condition, source)


def explained(wanted: Tensor, found: Tensor) -> float:
    """1 − Σ‖wanted − found‖² / Σ‖wanted − mean‖²: explained share of variance of two rows ``(N, K)`` or more."""
    if wanted.shape != found.shape or len(wanted) < 2:
        raise CourseError(f"give two sets of one shape, two rows or more, not {[*wanted.shape]} and {[*found.shape]}.")
    return (1.0 - (wanted - found).square().sum() / (wanted - wanted.mean(0)).square().sum()).item()


@torch.no_grad()
def inherited(judge: Judge, grid: Tensor, labels: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Attribute → shares of crossed pictures, ``cross_grid (N, N, 3, S, S)``, with the class of the residual's picture
    and of the condition's, among pairs whose classes differ; ``labels``: attribute → true class ``int64 (N,)``."""
    count = len(next(iter(labels.values())))
    if grid.shape[:2] != (count, count):
        raise CourseError(f"{count} pictures need a grid of as many rows and columns, not {tuple(grid.shape[:2])}.")
    found, heads = {}, judge.network.heads
    features = judge.features(grid.flatten(0, 1)).to(next(heads.parameters()).device)
    for name, classes in labels.items():
        read = heads[name](features).argmax(1).cpu().view(count, count)
        row, column = classes[:, None].expand(count, count), classes[None].expand(count, count)
        found[name] = tuple((read == own)[row != column].float().mean().item() for own in (row, column))
    return found


Named = Sequence[Mapping[str, str]]
"""For every picture what its sentence names, attribute → value."""


def _asked(named: Named) -> dict[str, Tensor]:
    """Attribute → class numbers ``int64 (N,)``, −1 where a sentence leaves it open."""
    every = ATTRIBUTES.items()
    return {k: torch.tensor([known.index(one[k]) if k in one else -1 for one in named]) for k, known in every}


def read_as_asked(pictures: Tensor, named: Named, judge: Judge) -> dict[str, float]:
    """Attribute that a sentence names → share of its pictures ``(N, 3, S, S)`` in which the judge reads this value."""
    shares = {}
    for name, asked in _asked(named).items():
        said = asked >= 0
        if said.any():
            shares[name] = (judge.predict(pictures[said], name) == asked[said]).float().mean().item()
    return shares


def open_variety(pictures: Tensor, named: Named, judge: Judge) -> dict[str, tuple[float, float]]:
    """Attribute → the chance that the judge reads two different values in two samples ``(B, samples, 3, S, S)`` of one
    sentence, for sentences that name it and for the others; nan if there are none."""
    count, samples = pictures.shape[:2]
    found = {}
    for name, asked in _asked(named).items():
        seen = judge.predict(pictures.flatten(0, 1), name).view(count, samples)
        differ = (seen[:, :, None] != seen[:, None]).float().sum((1, 2)) / (samples * (samples - 1))
        found[name] = (differ[asked >= 0].mean().item(), differ[asked < 0].mean().item())
    return found


def nearest_caption_pictures(
    asked: Sequence[str], sentences: SourceExpert, bank: ImageSet, rows: Tensor, captions: Sequence[str]
) -> Tensor:
    """The baseline that draws nothing, ``(Q, 3, S, S)``: the ``rows (C,)`` whose captions are most like Q sentences."""
    found = nearest(sentences.encode(list(asked)), sentences.encode(list(captions)))[:, 0]
    return bank.batch(rows[found.cpu()])
