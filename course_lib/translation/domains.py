"""Unpaired translation: a label is the source expert, and one autoencoder draws every domain (paper §4).

The conditional likelihood alone never says *which* picture of the other domain belongs to this one: turning ``v`` by a
different rotation for each label costs it nothing. What fixes the correspondence is where training starts (the means of
the domains laid on each other, blocks near the identity) and, as our addition, a pull between pictures of two domains
that are each other's nearest neighbours. Those pseudo pairs are found without labels of content and without true pairs.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..cinn import ConditionalFlow, FlowConfig, GridFlow, GridFlowConfig, nll_terms
from ..data import ImageSet
from ..errors import CourseError
from ..experts import Autoencoder, GridAutoencoder, LabelExpert, TargetExpert
from ..training import Budget, train
from ..training.budget import History
from ..training.method import Loss
from .pairs import Pairs, encode_pairs
from .partners import pseudo_pairs
from .training import FlowMethod
from .translator import Translator

__all__ = ["DomainMethod", "DomainTranslator", "encode_labelled", "fit_domains", "label_flow"]


def encode_labelled(
    data: ImageSet,
    target: Autoencoder,
    expert: LabelExpert,
    labels: Tensor | Mapping[str, Tensor],
    variants: int = 1,
    seed: int = 0,
) -> Pairs:
    """Posteriors of all pictures with their labels as conditions; the arguments of ``encode_pairs``.

    Variant ``k`` of picture ``i`` is row ``k · N + i``.
    """
    encoded = encode_pairs(data, lambda images: images.new_zeros(len(images), 1), target, variants, seed)
    condition = expert.encode(labels).to(encoded.mean.device).repeat(variants, 1)
    return Pairs(condition, encoded.mean, encoded.std)


def label_flow(
    pairs: Pairs, target: TargetExpert | None = None, seed: int = 0, gain: float = 0.05, **sizes: Any
) -> ConditionalFlow | GridFlow:
    """A small flow that begins as the mean shift: the label's mean is subtracted, and blocks are near the identity.

    Torch's default weights would begin with eight random rotations, different for every label, that training has no
    reason to undo.

    Args:
        pairs: training pairs; only latents and labels are used.
        target: whose latents they are. One with a grid gets convolutions, any other one a flat flow.
        gain: factor on the last layers of the coupling networks; 0 is the exact identity up to ActNorm.
        sizes: replace those of :class:`FlowConfig` or :class:`GridFlowConfig`.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(target, GridAutoencoder):
        grid = {"channels": target.config.channels, "side": target.config.side, "seed": seed}
        flow = GridFlow(GridFlowConfig(**grid, condition_shape=pairs.condition.shape[1:], **sizes), generator, gain)
        flow.fit_shift(pairs.mean.cpu(), pairs.condition.cpu())
        return flow.to(pairs.mean.device)
    small = {"hidden_dim": 128, "hidden_depth": 0, "blocks": 8, "embedding_dim": 8, "embedder_depth": 0}
    small |= {"embedder_hidden_dim": 16, "condition_shift": True, "seed": seed}
    config = FlowConfig(pairs.mean.shape[1], tuple(pairs.condition.shape[1:]), **small | sizes)
    flow = ConditionalFlow(config, generator)
    with torch.no_grad():
        for block in flow.blocks:
            for net in (*block.coupling.scale_nets, *block.coupling.shift_nets):
                net.out.weight.mul_(gain)
                net.out.bias.zero_()
    if config.condition_shift:
        flow.fit_shift(pairs.mean.cpu(), pairs.condition.cpu())
    return flow.to(pairs.mean.device)


class DomainMethod(FlowMethod):
    """Conditional likelihood plus ``weight · ½‖v_i − v_j‖²`` on pseudo pairs; logs the second as ``alignment``.

    Without the likelihood the pull would collapse everything to one point; the likelihood keeps ``v`` standard normal
    under every label.

    Args:
        pairs: training pairs.
        flow: the flow to train.
        partners: positions in ``pairs``, as :func:`pseudo_pairs` gives them; None trains the likelihood alone.
        weight: of the pull.
        options: those of :class:`FlowMethod`.
    """

    def __init__(
        self,
        pairs: Pairs,
        flow: ConditionalFlow | GridFlow,
        partners: tuple[Tensor, Tensor] | None = None,
        weight: float = 1.0,
        **options: Any,
    ):
        super().__init__(pairs, flow, **options)
        self.partners, self.weight = partners, weight

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, int]:
        """Latents, conditions, and how many partners stand at the end: first all of one side, then of the other."""
        if self.partners is None:
            return *super().batch(index, generator), 0
        count = max(1, len(index) // 4)
        chosen = torch.randint(len(self.partners[0]), (count,), generator=generator)
        sides = [side.cpu()[chosen] for side in self.partners]
        return *super().batch(torch.cat([index.cpu(), *sides]), generator), count

    def terms(self, batch: Any, generator: torch.Generator, step: int) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """What is minimised, what is logged, and ``v`` of the whole batch."""
        latent, condition, count = batch
        v, log_det = self.modules["flow"](latent, condition)
        terms = nll_terms(v, log_det, generator=generator)
        scalars = {"nll": terms.nll, "reference nll": terms.reference_nll, **self._held_out(step)}
        total = terms.total
        if count:
            scalars["alignment"] = 0.5 * (v[-2 * count : -count] - v[-count:]).square().sum(1).mean()
            total = total + self.weight * scalars["alignment"]
        return total, scalars, v

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """One phase."""
        total, scalars, _ = self.terms(batch, generator, step)
        yield Loss("flow", total, scalars)


class DomainTranslator(Translator):
    """A flow between domain labels and one autoencoder.

    Args:
        names: of the domains, in the order of their labels.
        flow: conditioned on one-hot labels.
        target: draws all domains.
    """

    def __init__(self, names: Sequence[str], flow: ConditionalFlow | GridFlow, target: TargetExpert):
        super().__init__(LabelExpert(len(names)), flow, target)
        self.names = list(names)

    def code(self, labels: Tensor) -> Tensor:
        """Conditions on the flow's device."""
        return self.source.encode(labels.cpu()).to(next(self.flow.parameters()).device)

    @torch.no_grad()
    def move(self, latent: Tensor, labels: Tensor, others: Tensor) -> Tensor:
        """Latents ``(B, D)`` of domain ``labels (B,)`` as latents of domain ``others (B,)``, with the same ``v``."""
        return self.flow.inverse(self.flow.encode(latent, self.code(labels)), self.code(others))

    @torch.no_grad()
    def translate_to(
        self, y: Tensor, labels: Tensor, others: Tensor, detail: float = 0.0, amount: float = 1.0
    ) -> Tensor:
        """Pictures ``y (B, 3, S, S)`` of domain ``labels`` as pictures of domain ``others``.

        Args:
            y: pictures in [−1, 1].
            labels, others: ``int64 (B,)``.
            detail: how much of what the autoencoder loses of ``y`` is laid over the result; with 1 a picture under its
                own label is returned unchanged.
            amount: how far along the straight line of latents from picture to translation, 0 to 1.
        """
        parts = []
        for x, own, other in zip(y.split(128), labels.split(128), others.split(128), strict=True):
            latent = self.target.encode(x)
            moved = self.target.decode(torch.lerp(latent, self.move(latent, own, other), amount))
            if detail:
                moved = (moved + detail * (x - self.target.decode(latent))).clamp(-1, 1)
            parts.append(moved)
        return torch.cat(parts)

    def under_every_label(self, y: Tensor, labels: Tensor, detail: float = 0.0, amount: float = 1.0) -> Tensor:
        """``(B, K, 3, S, S)``: every picture as every domain; under its own label it is its reconstruction."""
        every = range(len(self.names))
        return torch.stack([self.translate_to(y, labels, torch.full_like(labels, k), detail, amount) for k in every], 1)

    @torch.no_grad()
    def path(self, y: Tensor, label: int, other: int, frames: int) -> Tensor:
        """``(frames, 3, S, S)``: one picture ``y (3, S, S)`` on the straight line of latents to its translation."""
        latent = self.target.encode(y[None])
        moved = self.move(latent, torch.tensor([label]), torch.tensor([other]))
        amounts = torch.linspace(0, 1, frames, device=latent.device)[:, None]
        return torch.cat([self.target.decode(z) for z in torch.lerp(latent, moved, amounts).split(64)])

    @torch.no_grad()
    def vary(
        self, y: Tensor, label: int, count: int, spread: float = 0.3, generator: torch.Generator | None = None
    ) -> Tensor:
        """``(count, K, 3, S, S)``: samples around one picture; a row shares its ``v`` under all labels.

        Args:
            y: ``(3, S, S)`` of domain ``label``.
            spread: s in √(1 − s²) v + s ε, where ε is noise as long as v: 0 keeps the picture's residual, 1 forgets it.
            generator: of the noise, on the CPU.

        Raises:
            CourseError: the spread is not between 0 and 1.
        """
        if not 0 <= spread <= 1:
            raise CourseError(f"the spread is between 0 (the picture itself) and 1 (something new), not {spread}.")
        v = self.flow.encode(self.target.encode(y[None]), self.code(torch.tensor([label])))
        noise = torch.randn(count, v.shape[1], generator=generator).to(v) * v.square().mean().sqrt()
        return self.render((1 - spread**2) ** 0.5 * v + spread * noise, torch.arange(len(self.names))).transpose(0, 1)


def fit_domains(
    pairs: Pairs,
    names: Sequence[str],
    target: Autoencoder,
    steps: int,
    batch_size: int = 256,
    seed: int = 0,
    weight: float = 1.0,
    pictures: int | None = None,
    features: Tensor | None = None,
    rate: float = 2e-3,
    weight_decay: float = 0.05,
    held: Pairs | None = None,
    sizes: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[DomainTranslator, History]:
    """Trains an unpaired translator on encoded pictures: what notebook 05 does live.

    Args:
        pairs: as :func:`encode_labelled` gives them.
        names: of the domains.
        target: the autoencoder that encoded them.
        steps: of the optimiser.
        weight: of the pull between pseudo pairs; 0 trains the likelihood alone.
        pictures: ``N``, where ``pairs`` holds several variants of N pictures; partners are looked for among the first
            N rows and pulled in the first two variants, which show both partners alike.
        features: ``(N, F)``, in which partners are looked for, see :func:`content_features`; the latents by default.
        sizes: of the flow, and its ``gain``, see :func:`label_flow`.
        options: of :func:`course_lib.training.train`.

    Raises:
        CourseError: fewer than two domains, or a domain with fewer than five pictures.
    """
    count = pictures or len(pairs)
    labels = pairs.condition[:count].argmax(1)
    members = torch.bincount(labels.cpu(), minlength=len(names))
    if len(names) < 2 or int(members.min()) < 5:
        found = ", ".join(f"{name} {number}" for name, number in zip(names, members.tolist(), strict=True))
        raise CourseError(f"a translator needs two domains or more with five pictures each, not {found}: add pictures.")
    flow = label_flow(pairs, target, seed, **(sizes or {}))
    partners = None
    if weight:
        first, second = pseudo_pairs(pairs.mean[:count] if features is None else features, labels)
        twice = (first + count, second + count) if len(pairs) >= 2 * count else (first[:0], second[:0])
        partners = torch.cat([first, twice[0]]), torch.cat([second, twice[1]])
    rates = {"rate": rate, "weight_decay": weight_decay, "held": held, "held_every": options.get("log_every", 100)}
    method = DomainMethod(pairs, flow, partners, weight, **rates)
    history = train(method, Budget(steps), min(batch_size, len(pairs)), seed=seed, **options)
    return DomainTranslator(names, history.averaged["flow"].eval(), target), history
