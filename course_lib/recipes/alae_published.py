"""ALAE's training as published, with nothing before it: three steps from the first on, growing if asked for.

Needs millions of pictures, or pictures as plain as digits; :class:`~course_lib.recipes.generators.ALAEMethod`: fewer.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..data import ImageSet
from ..gans.alae import ALAE
from ..gans.alae_layers import equalised_groups
from ..gans.alae_mlp import MLPALAE
from ..gans.growing import Stage, blended, stage_at
from ..gans.losses import latent_reciprocity, logistic_critic, logistic_generator
from ..gans.stylegan import mix_styles
from ..gans.stylegan_critic import r1_penalty
from ..training.method import Loss, Method, frozen

__all__ = ["PublishedALAEMethod"]


class PublishedALAEMethod(Method):
    """Critic's step (E, D), generator's (G, F), reciprocity (E, G, F), each on fresh noise.

    Args:
        data: training pictures, already at the network's size if it is an :class:`MLPALAE`.
        network: style-based, or the version for digits, which neither grows nor mixes.
        rate: Adam's learning rate; 0.0015 for the style-based versions, 0.002 for digits.
        r1: γ/2.
        mixing: share of steps with two styles; 0 in the reciprocity step.
        flip: mirror pictures at random.
        grow: share of the run in which the pictures grow from 4 pixels on; the published one is about a half.
        half_life: of the moving average of all four networks, in pictures.
        batch_size: only for the decay of that average.
    """

    def __init__(
        self,
        data: ImageSet,
        network: ALAE | MLPALAE,
        rate: float = 1.5e-3,
        r1: float = 5.0,
        mixing: float = 0.9,
        flip: bool = True,
        grow: float = 0.0,
        half_life: int = 10_000,
        batch_size: int = 128,
    ):
        super().__init__()
        style_based = isinstance(network, ALAE)
        self.data, self.length, self.size = data, len(data), network.config.size
        self.r1, self.flip, self.mixing = r1, flip, mixing if style_based else 0.0
        self.slots, self.colours = (network.config.slots, network.config.colours) if style_based else (1, 1)
        self.sizes = [4 * 2**k for k in range(len(network.config.channels))] if style_based else [self.size]
        self.latent, self.grow, self.progress = network.latent_dim, grow if style_based else 0.0, 0.0
        self.modules = {"generator": network.generator, "encoder": network.encoder, "score": network.score}
        self.optimizers = {
            name: torch.optim.Adam([g for part in parts for g in equalised_groups(part, rate)], betas=(0.0, 0.99))
            for name, parts in (("critic", (network.encoder, network.score)), ("generator", (network.generator,)))
        }
        self.ema = dict.fromkeys(self.modules, 0.5 ** (batch_size / half_life))
        self._reset_at_new_size(self._stage().size)

    def to_device(self, device: torch.device) -> None:
        """Moves the pictures."""
        super().to_device(device)
        self.data = self.data.to(device)

    def learning_rate(self, progress: float) -> float:
        """Constant."""
        self.progress = progress
        return 1.0

    def _stage(self) -> Stage:
        return stage_at(self.progress, self.sizes, self.grow)

    def batch(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Pictures ``(B, colours, S, S)``."""
        flip = torch.rand(len(index), generator=generator) < 0.5 if self.flip else None
        images = self.data.batch(index, self.size, flip)
        return images.mean(1, keepdim=True) if self.colours == 1 else images

    def losses(self, batch: Tensor, generator: torch.Generator, step: int) -> Iterator[Loss]:
        stage = self._stage()
        self._reset_at_new_size(stage.size)
        yield self._critic_step(blended(batch, stage), stage, generator)
        encoder, score = self.unwrapped("encoder"), self.unwrapped("score")
        found, _ = self._draw(len(batch), stage, generator, self.mixing)
        with frozen(encoder), frozen(score), self.autocast():
            value = logistic_generator(score(encoder(found, **self._fade(stage))))
        yield Loss("generator", value)
        found, w = self._draw(len(batch), stage, generator, 0.0)
        value = latent_reciprocity(self.modules["encoder"](found, **self._fade(stage)), w)
        yield Loss("critic", value, {"reciprocity": value.detach()}, also=("generator",))

    def _reset_at_new_size(self, size: int) -> None:
        """As published: what an optimiser knows of gradients at another size is forgotten.

        The size is kept among the optimiser's own settings, so a resumed run does not take the size that it stopped at
        for a new one.
        """
        for optimizer in self.optimizers.values():
            group = optimizer.param_groups[0]
            if group.setdefault("size", size) != size:
                group["size"] = size
                optimizer.state.clear()

    def _fade(self, stage: Stage) -> dict[str, float]:
        return {"alpha": stage.alpha} if stage.alpha < 1.0 else {}

    def _draw(self, count: int, stage: Stage, generator: torch.Generator, mixing: float) -> tuple[Tensor, Tensor]:
        z = torch.randn(2, count, self.latent, generator=generator).to(self.device)
        mixed = mixing > 0 and bool(torch.rand((), generator=generator) < mixing)
        z = mix_styles(z[0], z[1], self.slots, generator) if mixed else z[0]
        growing = {"size": stage.size, "alpha": stage.alpha} if self.grow else {}
        noise = self.unwrapped("generator").decoder.noise(count, generator)
        return self.modules["generator"](z, noise, **growing)

    def _critic_step(self, real: Tensor, stage: Stage, generator: torch.Generator) -> Loss:
        with torch.no_grad():
            fake, _ = self._draw(len(real), stage, generator, self.mixing)
        real = real.detach().requires_grad_()
        encoder, score, fade = self.modules["encoder"], self.modules["score"], self._fade(stage)
        on_real, on_fake = score(encoder(real, **fade)), score(encoder(fake, **fade))
        penalty = r1_penalty(on_real, real)
        scalars = {"real": on_real.mean().detach(), "fake": on_fake.mean().detach(), "r1": penalty.detach()}
        return Loss("critic", logistic_critic(on_real, on_fake) + self.r1 * penalty, scalars)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Sixteen samples."""
        found, _ = self._draw(16, self._stage(), torch.Generator().manual_seed(0), 0.0)
        return found.expand(-1, 3, -1, -1)
