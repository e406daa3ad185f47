"""Unpaired translation and attributes: labels are the source expert, and one autoencoder draws every domain (paper §4).
To translate, the domain's label is exchanged; to edit, another one. What no label says stays in ``v``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..cinn.flow import GridFlow, GridFlowConfig
from ..data.image_set import ImageSet
from ..errors import CourseError
from ..experts.conditions import LabelExpert
from ..experts.networks import Classifier, GridAutoencoder
from ..experts.protocol import freeze
from ..training.loop import train
from ..training.runs import Budget, History, Loss, Method
from .translator import FlowMethod, Pairs, Translator, encode_pairs

Labels = Mapping[str, Tensor | int]


def people_expert(classes: Mapping[str, Sequence[str]]) -> LabelExpert:
    """Style, skin, hair, cut, glasses, mouth; products with the style, because each style draws them in other places.
    Cut and hair colour also meet each other, glasses and mouth the skin that they lie on."""
    names = ("style", "skin", "hair", "cut", "glasses", "mouth")
    crossed = [("style", name) for name in names[1:]] + [("style", "cut", "hair")]
    crossed += [("style", "skin", "glasses"), ("style", "skin", "mouth")]
    return LabelExpert({name: len(classes[name]) for name in names}, crossed)


def encode_labelled(data: ImageSet, target: GridAutoencoder, expert: LabelExpert, noise: float = 0.0) -> Pairs:
    """Posteriors of all pictures with their joined one-hots as conditions; see :func:`encode_pairs`."""
    encoded = encode_pairs(data, lambda images: images.new_zeros(len(images), 1), target, noise)
    joined = expert.join({name: data.labels[name] for name in expert.slices})
    return replace(encoded, condition=joined.to(encoded.mean.device))


def withhold(joined: Tensor, expert: LabelExpert, generator: torch.Generator) -> Tensor:
    """Joined one-hots ``(B, joined)`` in which some attributes are left open; the first, the domain, never is. Four of
    ten rows keep everything. In the others a share between 0 and 1, another one for each row, is left open."""
    if len(expert.slices) == 1:
        return joined
    share = torch.rand(len(joined), 1, generator=generator) * (torch.rand(len(joined), 1, generator=generator) > 0.4)
    kept = torch.rand(len(joined), len(expert.slices), generator=generator) >= share
    kept[:, 0] = True
    owner = [k for k, part in enumerate(expert.slices.values()) for _ in range(part.stop - part.start)]
    return joined * kept[:, owner].to(joined)


def label_flow(
    pairs: Pairs, target: GridAutoencoder, expert: LabelExpert, seed: int = 0, gain: float = 0.05, **sizes: Any
) -> GridFlow:
    """A flow on joined one-hots that begins as the difference from a linear prediction, blocks near the identity. The
    prediction is frozen: trained along, it hands the labels over to the blocks, which carry them in v as well."""
    grid = {"channels": target.config.channels, "side": target.config.side, "seed": seed}
    config = GridFlowConfig(**grid, condition_shape=expert.condition_shape, **sizes)
    flow = GridFlow(config, torch.Generator().manual_seed(seed), gain)
    joined = withhold(pairs.condition.cpu(), expert, torch.Generator().manual_seed(seed))
    flow.fit_shift(pairs.mean.cpu(), expert.cross(joined))
    flow.shift.requires_grad_(False)
    return flow.to(pairs.mean.device)


class LinearStart(nn.Module):
    """A flow without its blocks: what the linear prediction of the latent leaves is the residual."""

    def __init__(self, flow: GridFlow):
        super().__init__()
        self.config, self.shift = flow.config, flow.shift
        self.encode, self.inverse = flow.shift.forward, flow.shift.inverse


class LabelMethod(FlowMethod):
    """Conditional likelihood under joined one-hots, some open in every step; conditions of ``held`` are complete."""

    def __init__(self, pairs: Pairs, flow: GridFlow, expert: LabelExpert, *options: Any, **named: Any):
        super().__init__(pairs, flow, *options, **named)
        self.expert = expert

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        latent, joined = super().batch(index, generator)
        return latent, self.expert.cross(withhold(joined, self.expert, generator))


class DomainTranslator(Translator):
    """A flow between labels and one autoencoder; labels are class numbers ``(B,)``, or one for all pictures.
    ``classes``: attribute → its values; of the ``expert``'s the first is the domain, with values ``names``. The further
    ones are read off a picture by the ``classifier``; without one they are left open."""

    def __init__(
        self,
        classes: Mapping[str, Sequence[str]],
        flow: GridFlow,
        target: GridAutoencoder,
        expert: LabelExpert,
        classifier: Classifier | None = None,
    ):
        super().__init__(expert, flow, target)
        self.domain, self.classifier = next(iter(expert.slices)), classifier
        self.classes = {name: list(classes[name]) for name in expert.slices}
        self.names = self.classes[self.domain]

    @torch.no_grad()
    def labels(self, y: Tensor, domain: Tensor) -> dict[str, Tensor]:
        """The labels of pictures ``y (B, 3, S, S)``: the given domain, and what the classifier reads."""
        known = {self.domain: domain.to(y.device)}
        if self.classifier is None:
            return known
        read = [self.classifier(x) for x in y.split(128)]
        return known | {name: torch.cat([x[name] for x in read]).argmax(1) for name in list(self.classes)[1:]}

    def _tensors(self, labels: Labels) -> dict[str, Tensor]:
        """The same, one number a picture, on the flow's device."""
        device = next(self.flow.parameters()).device
        numbers = torch.broadcast_tensors(*(torch.as_tensor(one, device=device).view(-1) for one in labels.values()))
        return dict(zip(labels, numbers, strict=True))

    def code(self, labels: Labels) -> Tensor:
        return self.source.encode(self._tensors(labels))

    @torch.no_grad()
    def move(self, latent: Tensor, own: Labels, other: Labels) -> Tensor:
        """Latents ``(B, D)`` with labels ``own`` as latents with labels ``other``: the same ``v``."""
        return self.flow.inverse(self.flow.encode(latent, self.code(own)), self.code(other))

    def edit(self, y: Tensor, domain: Tensor, changed: Labels) -> Tensor:
        """Pictures ``y (B, 3, S, S)`` of domains ``(B,)`` with some labels (also the domain) exchanged."""
        return self._edit(y, domain, [changed])[:, 0]

    def under_every_label(self, y: Tensor, domain: Tensor, changed: Labels | None = None) -> Tensor:
        """``(B, K, 3, S, S)``: every picture as every domain; ``changed`` as for :meth:`edit`."""
        return self._edit(y, domain, [{**(changed or {}), self.domain: k} for k in range(len(self.names))])

    @torch.no_grad()
    def _edit(self, y: Tensor, domain: Tensor, editions: Sequence[Labels]) -> Tensor:
        """``(B, editions, 3, S, S)``; every picture is read and encoded once."""
        if unknown := {name for changed in editions for name in changed} - set(self.classes):
            raise CourseError(f"no attribute {', '.join(sorted(unknown))}: choose from {', '.join(self.classes)}.")
        own, parts = self.labels(y, domain), []
        codes = [self.code(own), *(self.code(own | changed).expand(len(y), -1) for changed in editions)]
        for some, code, *others in zip(y.split(128), *(one.split(128) for one in codes), strict=True):
            v = self.flow.encode(self.target.encode(some), code)
            parts.append(torch.stack([self.target.decode(self.flow.inverse(v, other)) for other in others], 1))
        return torch.cat(parts)

    @torch.no_grad()
    def path(self, y: Tensor, domain: int, other: int, frames: int, changed: Labels | None = None) -> Tensor:
        """``(frames, 3, S, S)``: one picture ``y (3, S, S)`` on the straight line of latents to its translation."""
        latent, own = self.target.encode(y[None]), self.labels(y[None], torch.tensor([domain]))
        moved = self.move(latent, own, own | (changed or {}) | {self.domain: other})
        return self.decode(torch.lerp(latent, moved, torch.linspace(0, 1, frames, device=latent.device)[:, None]))

    @torch.no_grad()
    def vary(
        self,
        y: Tensor,
        domain: int,
        count: int,
        spread: float = 0.3,
        generator: torch.Generator | None = None,
        changed: Labels | None = None,
    ) -> Tensor:
        """``(count, K, 3, S, S)``: samples around one picture ``y (3, S, S)``; a row shares its ``v`` in all domains.
        ``spread`` is s in √(1 − s²) v + s ε, with noise ε as long as v: 0 keeps the residual, 1 forgets it."""
        if not 0 <= spread <= 1:
            raise CourseError(f"the spread is between 0 (the picture itself) and 1 (something new), not {spread}.")
        own = self.labels(y[None], torch.tensor([domain]))
        v = self.flow.encode(self.target.encode(y[None]), self.code(own))
        noise = torch.randn(count, v.shape[1], generator=generator).to(v) * v.square().mean().sqrt()
        every = self._tensors(own | (changed or {}) | {self.domain: torch.arange(len(self.names))})
        return self.render((1 - spread**2) ** 0.5 * v + spread * noise, every).transpose(0, 1)


def fit_domains(
    pairs: Pairs,
    classes: Mapping[str, Sequence[str]],
    target: GridAutoencoder,
    steps: int,
    seed: int = 0,
    sizes: Mapping[str, Any] | None = None,
    **named: Any,
) -> tuple[DomainTranslator, History]:
    """Trains a translator between domains; ``pairs`` have their one-hots alone. A single or small one is refused."""
    domain, names = next(iter(classes.items()))
    expert, members = LabelExpert({domain: len(names)}), pairs.condition.sum(0).long().cpu()
    if len(members) < 2 or int(members.min()) < 5:
        found = ", ".join(f"{name} {number}" for name, number in zip(names, members.tolist(), strict=True))
        raise CourseError(f"a translator needs two domains or more with five pictures each, not {found}: add pictures.")
    flow = label_flow(pairs, target, expert, seed, **(sizes or {}))
    method = LabelMethod(pairs, flow, expert, 2e-3, 0.02)
    history = train(method, Budget(steps), min(64, len(pairs)), seed=seed, **named)
    flow = history.averaged["flow"].eval()
    method.fit_residual_shift(flow)
    return DomainTranslator(classes, flow, target, expert), history


_MIN_PICTURES = 10
"""Fewest pictures in a domain; of these one is kept for validation and one for testing."""


def own_domains(data: ImageSet) -> ImageSet:
    """``data`` with a split; a :class:`CourseError` for a single folder, or too few pictures in one."""
    names = data.classes.get("domain", [])
    if len(names) < 2:
        raise CourseError(f"{data.name!r} has one folder of pictures: put every domain into a sub-folder of its own.")
    counts = torch.bincount(data.labels["domain"], minlength=len(names)).tolist()
    for name, count in zip(names, counts, strict=True):
        if count < _MIN_PICTURES:
            raise CourseError(f"the folder {name!r} has {count} pictures; add some until it has {_MIN_PICTURES}.")
    if len(data.split):
        return data
    split = torch.zeros(len(data), dtype=torch.int64)
    for k in range(len(names)):  # domain by domain, so that none is missing from a part
        members = (data.labels["domain"] == k).nonzero()[:, 0]
        split[members] = data.subset(members).random_split(k).split
    return replace(data, split=split)


@torch.no_grad()
def reconstruction_psnr(autoencoder: GridAutoencoder, data: ImageSet) -> float:
    """Peak signal-to-noise ratio of the reconstructions in dB, peak 2, over all pictures together."""
    batches = (x.to(next(autoencoder.parameters()).device) for x in data.batches(128))
    error = [(autoencoder.decode(autoencoder.encode(x)) - x).square().mean((1, 2, 3)) for x in batches]
    return (10 * (4.0 / torch.cat(error).mean().clamp_min(1e-10)).log10()).item()


class _Reconstruction(Method):
    """Mean absolute error; BatchNorm keeps its statistics, because few pictures would spoil them."""

    moved = ("data",)

    def __init__(self, data: ImageSet, autoencoder: GridAutoencoder, rate: float):
        super().__init__()
        self.data, self.length, self.modules = data, len(data), {"autoencoder": autoencoder}
        self.optimizers = {"autoencoder": torch.optim.AdamW(autoencoder.parameters(), rate, weight_decay=0.01)}

    def batch(self, index: Tensor, generator: torch.Generator) -> Tensor:
        return self.data.batch(index, flip=torch.rand(len(index), generator=generator) < 0.5)

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        network = self.modules["autoencoder"].eval()
        yield Loss("autoencoder", (network(batch)[0] - batch).abs().mean())


def adapt_autoencoder(
    autoencoder: GridAutoencoder, data: ImageSet, steps: int, rate: float = 3e-4, seed: int = 0, **options: Any
) -> GridAutoencoder:
    """A frozen copy of ``autoencoder`` that was trained on for ``steps`` on pictures of all domains together."""
    copy = type(autoencoder)(autoencoder.config)
    copy.load_state_dict(autoencoder.state_dict())
    copy.to(next(autoencoder.parameters()).device, memory_format=torch.channels_last)
    train(_Reconstruction(data, copy, rate), Budget(steps), min(32, len(data)), seed=seed, **options)
    return freeze(copy)
