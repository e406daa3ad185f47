"""Translations looked at: a frozen classifier sees the same things in them, a critic of its layers the other style.

The likelihood makes ``v`` forget the label only as far as the flow learns to, and no likelihood says which picture of
the other domain belongs to this one. Both can be seen in the decoded picture. Decoder and classifier stay frozen; their
gradients pass through to the flow.

Sources: AlignFlow (Grover et al. 2020) joins likelihood and adversary on a flow, which is cycle consistent by
construction. A critic of a frozen network's layers instead of pixels is that of Projected GANs (Sauer et al. 2021). A
content loss in the layers of a classifier is perceptual loss (Johnson et al. 2016); centring each domain is ours.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import ImageSet
from ..errors import CourseError
from ..experts import Classifier, GridAutoencoder, freeze
from ..training.method import Loss, frozen
from .domains import DomainMethod
from .partners import content_layers

__all__ = ["FeatureCritic", "PictureDomainMethod", "Viewer"]

_SHIFT = 4
"""Pixels, as in the classifier's training."""


class Viewer:
    """What a frozen classifier sees in decoded latents.

    What is seen of a domain differs from domain to domain in the mean already: a style with outlines has more edges
    everywhere. So contents are compared after each domain's mean has been subtracted.

    Args:
        target: draws latents; it is frozen.
        classifier: looks at them; it is frozen.
        latents: ``(N, D)`` of real pictures, for the means.
        labels: ``int64 (N,)``, their domains, from 0.
        precision: in which both compute. ``torch.bfloat16`` takes 0.6 of the time on processors with such units; what
            trains is not affected.

    Raises:
        CourseError: a domain has no pictures.

    Attributes:
        means: of the three contents, ``(K, F)`` each.
        length: mean squared length of the third.
        scales: mean and deviation ``(C,)`` of the channels of the classifier's first three stages.
    """

    def __init__(
        self,
        target: GridAutoencoder,
        classifier: Classifier,
        latents: Tensor,
        labels: Tensor,
        precision: torch.dtype = torch.float32,
    ):
        self.target, self.classifier, self.precision = freeze(target), freeze(classifier), precision
        count = torch.bincount(labels.cpu())
        if not len(labels) or not count.all():
            raise CourseError(f"every domain needs pictures whose mean is taken, not {count.tolist()}: give more.")
        domains, contents, stages = range(len(count)), [], []
        for part in latents.split(100):
            with torch.no_grad():
                maps = self.maps(part)
                contents.append(self.content(maps))
            early = [stage.float() for stage in maps[:3]]
            stages.append([torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))]) for x in early])
        layers = [torch.cat(layer) for layer in zip(*contents, strict=True)]
        self.means = [torch.stack([layer[labels == k].mean(0) for k in domains]) for layer in layers]
        self.length = layers[-1].square().sum(1).mean()
        moments = [torch.stack(stage).mean(0) for stage in zip(*stages, strict=True)]
        self.scales = [(mean, (square - mean.square()).sqrt()) for mean, square in moments]

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        target: GridAutoencoder,
        classifier: Classifier,
        data: ImageSet,
        label: str = "style",
        count: int = 1000,
        seed: int = 0,
        precision: torch.dtype = torch.float32,
    ) -> "Viewer":
        """With the means of ``count`` pictures of ``data``, chosen by ``seed``; ``label`` names their domains."""
        some = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:count]
        chosen, device = data.subset(some), next(target.parameters()).device
        latents = torch.cat([target.encode(images.to(device)) for images in chosen.batches(250)])
        return cls(target, classifier, latents, chosen.labels[label].to(device), precision)

    def maps(self, latent: Tensor, shift: tuple[int, int] = (0, 0)) -> list[Tensor]:
        """:meth:`see` what :meth:`render` draws."""
        return self.see(self.render(latent, shift))

    def render(self, latent: Tensor, shift: tuple[int, int] = (0, 0)) -> Tensor:
        """Pictures ``(B, 3, S, S)`` of latents ``(B, D)``.

        They are not clamped: a white that is whiter than white would have no gradient, so that no outline could ever
        begin there.

        Args:
            latent: of the pictures.
            shift: pixels by which they are moved to the left and up; white moves in.
        """
        x, y = shift
        with self._autocast(latent):
            pictures = self.target.render(latent)
            return F.pad(pictures, (-x, x, -y, y), value=1.0) if x or y else pictures

    def see(self, pictures: Tensor) -> list[Tensor]:
        """The classifier's stage outputs for pictures ``(B, 3, S, S)``."""
        with self._autocast(pictures):
            return self.classifier.maps(pictures)

    def _autocast(self, tensor: Tensor) -> AbstractContextManager:
        return torch.autocast(tensor.device.type, self.precision, enabled=self.precision != torch.float32)

    def content(self, maps: list[Tensor]) -> list[Tensor]:
        """What is where, how it looks there, and what the picture is as a whole: three times ``(B, F)``."""
        whole = F.relu(self.classifier.norm(maps[-1].float())).mean((2, 3))
        return [*content_layers(maps), whole]

    def distance(self, first: list[Tensor], own: Tensor, second: list[Tensor], other: Tensor) -> Tensor:
        """1 − cosine of contents without their domains' means, mean over pictures and layers, in [0, 2].

        Args:
            first, second: contents of the same pictures, as two domains.
            own, other: ``int64 (B,)``, these domains.
        """
        parts = [
            1 - F.cosine_similarity(a - mean[own], b - mean[other]).mean()
            for mean, a, b in zip(self.means, first, second, strict=True)
        ]
        return torch.stack(parts).mean()

    def shortfall(self, first: list[Tensor], own: Tensor, second: list[Tensor], other: Tensor) -> Tensor:
        """How far pictures are, as a whole, from where they should be: where the input was, moved by the difference
        of the domains' means; squared, in units of the mean squared length, at least 0.

        Unlike :meth:`distance` it asks for both at once, the content and the style, and for the right length.

        Args:
            first, own: contents of the inputs, and their domains.
            second, other: contents of their translations, and the domains asked for.
        """
        mean = self.means[-1]
        goal = first[-1] - mean[own] + mean[other]
        return (second[-1] - goal).square().sum(1).mean() / self.length

    def named(self, content: list[Tensor]) -> Tensor:
        """Logits ``(B, K)`` of the classifier's head ``style``."""
        return self.classifier.heads["style"](content[-1])

    def terms(self, first: list[Tensor], own: Tensor, second: list[Tensor], other: Tensor) -> dict[str, Tensor]:
        """What a translation is asked for: ``content`` (:meth:`distance`), ``whole`` (:meth:`shortfall`) and ``style``
        (cross-entropy with the domain asked for); arguments as there."""
        return {
            "content": self.distance(first, own, second, other),
            "whole": self.shortfall(first, own, second, other),
            "style": F.cross_entropy(self.named(second), other),
        }


class FeatureCritic(nn.Module):
    """Says of the classifier's first three stages whether they belong to a real picture of a given domain.

    Every stage has its own small convolutional network that judges each place by itself; high means real.

    Args:
        scales: mean and deviation of the channels of each stage, see :class:`Viewer`.
        domains: ``K``.
        width: channels inside.
    """

    def __init__(self, scales: Sequence[tuple[Tensor, Tensor]], domains: int, width: int = 64):
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(*self._layers(len(mean), width, halvings), nn.Conv2d(width, domains, 1))
            for (mean, _), halvings in zip(scales, (2, 1, 0), strict=True)
        )
        for index, (mean, deviation) in enumerate(scales):
            self.register_buffer(f"mean{index}", mean[:, None, None].clone())
            self.register_buffer(f"deviation{index}", deviation[:, None, None].clone())

    @staticmethod
    def _layers(channels: int, width: int, halvings: int) -> Iterator[nn.Module]:
        """Down to the size of the coarsest stage, then one more 3×3 convolution."""
        kernels = [(4, 2)] * halvings or [(3, 1)]
        for kernel, stride in [*kernels, (3, 1)]:
            yield nn.Conv2d(channels, width, kernel, stride, 1)
            yield nn.GroupNorm(8, width)
            yield nn.LeakyReLU(0.2)
            channels = width

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Opinions ``(B, K, places)`` on pictures, should they claim to be of each domain."""
        seen = []
        for index, part in enumerate(self.parts):
            mean, deviation = self.get_buffer(f"mean{index}"), self.get_buffer(f"deviation{index}")
            seen.append(part((maps[index].float() - mean) / deviation).flatten(2))
        return torch.cat(seen, 2)


class PictureDomainMethod(DomainMethod):
    """:class:`DomainMethod` for one-hot domains, and a look at the pictures that translations become.

    Logs ``content`` (see :meth:`Viewer.distance`), ``whole`` (see :meth:`Viewer.shortfall`), ``style`` (the
    classifier's cross-entropy with the style asked for), ``taken for the target`` (the share for which it names it)
    and ``critic`` (minus the critic's opinion).

    Args:
        viewer: see :class:`Viewer`; its classifier has a head ``style`` that knows the domains.
        critic: see :class:`FeatureCritic`.
        weights: of ``content``, ``whole``, ``style`` and ``critic`` in the flow's loss, in nats a picture; one that is
            left out counts 0.
        looked_at: pictures of each batch that are decoded.
        arguments, options: those of :class:`DomainMethod`.
    """

    def __init__(
        self,
        *arguments: Any,
        viewer: Viewer,
        critic: nn.Module,
        weights: dict[str, float],
        looked_at: int = 32,
        **options: Any,
    ):
        super().__init__(*arguments, **options)
        self.viewer, self.weights, self.looked_at = viewer, weights, looked_at
        self.modules["critic"] = critic
        self.optimizers["critic"] = torch.optim.AdamW(critic.parameters(), 5e-4, (0.0, 0.99), weight_decay=0.01)

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """The flow's phase, then the critic's."""
        latent, condition, count = batch
        rows = min(len(latent) - 2 * count, self.looked_at)
        total, scalars, v = self.terms(batch, generator, step)
        domains = condition.shape[1]
        own, row = condition[:rows].argmax(1), torch.arange(rows, device=condition.device)
        other = (own + torch.randint(1, domains, (rows,), generator=generator).to(own.device)) % domains
        # Looked at a little displaced, both alike: what a classifier sees in one position only is no style.
        x, y = torch.randint(-_SHIFT, _SHIFT + 1, (2,), generator=generator).tolist()
        with torch.no_grad():
            real = self.viewer.maps(latent[:rows], (x, y))
        with self.autocast():
            moved = self.unwrapped("flow").inverse(v[:rows], F.one_hot(other, domains).float())
        maps = self.viewer.maps(moved.float(), (x, y))
        content = self.viewer.content(maps)
        with frozen(self.unwrapped("critic")):
            opinions = self.unwrapped("critic")(maps)[row, other]
        terms = self.viewer.terms(self.viewer.content(real), own, content, other) | {"critic": -opinions.mean()}
        total = total + sum(weight * terms[name] for name, weight in self.weights.items())
        taken = (self.viewer.named(content).argmax(1) == other).float().mean()
        yield Loss("flow", total, scalars | terms | {"taken for the target": taken})
        # Hinge loss. A real picture under a wrong label counts as a fake, or returning the input would do.
        opinion = self.modules["critic"]
        of_real = opinion(real)
        genuine, wrong = of_real[row, own], of_real[row, other]
        fake = opinion([stage.detach() for stage in maps])[row, other]
        loss = F.relu(1 - genuine).mean() + 0.5 * (F.relu(1 + wrong).mean() + F.relu(1 + fake).mean())
        yield Loss("critic", loss, {"opinion of real": genuine.mean(), "opinion of translated": fake.mean()})
