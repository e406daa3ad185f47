"""A transfer: encode the target set, train MindGAN on its codes, join it with the frozen halves; and as a file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import ImageSet
from ..errors import CourseError
from ..experts import TargetExpert, freeze
from ..gans.stylegan import mix_styles
from ..paths import CHECKPOINTS
from ..training import Budget, train
from ..training.loop import History
from ..training.weights import load_weights
from .halves import MainDirections, encode_set, expert_device, load_halves
from .networks import MindConfig, MindCritic, MindGenerator, uniform_noise
from .training import MindMethod

__all__ = ["KIND", "Transferred", "TransferredGAN", "new_tensors", "open_transferred", "transfer"]

KIND = "mindgan"


class TransferredGAN:
    """g = g₁ ∘ g₀ and c = c₀ ∘ c₁: the new small networks behind the noise, frozen ones in front of the pictures.

    Args:
        generator: g₀, trained.
        expert: (c₁, g₁), frozen: anything with ``encode`` and ``decode``.
        critic: c₀, where pictures are to be scored.
        codes: of the target set; their mean is where truncation pulls to.

    Raises:
        CourseError: generator and expert have codes of different lengths.
    """

    def __init__(self, generator: MindGenerator, expert: TargetExpert, critic: MindCritic | None = None,
                 codes: Tensor | None = None):  # fmt: skip
        if generator.config.latent != expert.latent_dim:
            raise CourseError(
                f"the generator makes codes of {generator.config.latent} numbers, the expert decodes "
                f"{expert.latent_dim}: train MindGAN on this expert's codes."
            )
        device = expert_device(expert)
        self.expert, self.generator = expert, generator.eval().to(device)
        self.critic = None if critic is None else critic.eval().to(device)
        self.mean = None if codes is None else codes.mean(0).to(device)

    @torch.no_grad()
    def codes(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Codes ``(B, D)`` of noise ``(B, noise)`` in [−1, 1].

        Args:
            z: see :meth:`noise`.
            truncation: 1 keeps codes as they are, as published; 0 gives the mean code to all.

        Raises:
            CourseError: truncation, and the codes of the target set were not given.
        """
        found = self.generator(z.to(expert_device(self.expert)))
        if truncation == 1.0:
            return found
        if self.mean is None:
            raise CourseError("truncation needs the target's mean code: pass codes= to TransferredGAN.")
        return torch.lerp(self.mean.expand_as(found), found, truncation)

    def noise(self, count: int, seed: int = 0) -> Tensor:
        """``(count, noise)``, uniform in [−1, 1]."""
        return uniform_noise(count, self.generator.config, torch.Generator().manual_seed(seed))

    def draw(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """Pictures ``(B, 3, S, S)`` in [−1, 1]."""
        return self.expert.decode(self.codes(z, truncation))

    def mix(self, z: Tensor, other: Tensor, seed: int = 0) -> Tensor:
        """Pictures whose fine layers follow a second code, from a layer drawn by chance on.

        Raises:
            CourseError: the expert reads its code in one place.
        """
        slots = getattr(getattr(self.expert, "alae", self.expert).config, "slots", None)
        if slots is None:
            raise CourseError("only a decoder that reads a style in every layer, an ALAE, can mix two.")
        return self.expert.decode(
            mix_styles(self.codes(z), self.codes(other), slots, torch.Generator().manual_seed(seed))
        )

    def sample(self, count: int, seed: int = 0, truncation: float = 1.0, batch_size: int = 250) -> Tensor:
        """``(count, 3, S, S)`` pictures on the CPU."""
        return torch.cat([self.draw(part, truncation).cpu() for part in self.noise(count, seed).split(batch_size)])

    @torch.no_grad()
    def score(self, images: Tensor) -> Tensor:
        """c₀(c₁(x)) ``(B,)`` of pictures ``(B, 3, S, S)`` in [−1, 1]: the transferred critic.

        Raises:
            CourseError: no critic was given.
        """
        if self.critic is None:
            raise CourseError("there is no critic to score with: pass critic= to TransferredGAN.")
        return self.critic(self.expert.encode(images.to(expert_device(self.expert)))).cpu()


@dataclass
class Transferred:
    """What a transfer leaves.

    Attributes:
        gan: to draw with.
        history: curve and seconds of training; encoding is not in them.
        codes: of the training pictures.
        parameters: numbers that were trained.
    """

    gan: TransferredGAN
    history: History
    codes: Tensor
    parameters: int = 0


def transfer(
    expert: TargetExpert,
    data: ImageSet,
    steps: int,
    config: MindConfig | None = None,
    held: ImageSet | None = None,
    batch_size: int = 128,
    seed: int = 0,
    average: float | None = 0.99,
    folder: Path | None = None,
    **options: Any,
) -> Transferred:
    """MindGAN for the pictures of ``data``.

    Args:
        expert: frozen.
        data: training pictures of the target.
        steps: of the generator.
        config: sizes; the published ones by default. Its ``latent`` is set to the expert's.
        held: pictures that are not trained on; their codes are what the Fréchet distance of codes is measured to.
        batch_size: codes a step, at most as many as there are.
        seed: of weights, order and noise.
        average: decay of the generator's moving average, which is then what draws; None for none, as published.
        folder: of cached codes.
        options: of :class:`MindMethod`.

    Raises:
        CourseError: fewer than two pictures.
    """
    if len(data) < 2:
        raise CourseError(f"{len(data)} pictures are no set to learn from: give at least two.")
    config = replace(config or MindConfig(), latent=expert.latent_dim)
    codes = encode_set(expert, data, folder, progress=False)
    others = None if held is None else encode_set(expert, held, folder, progress=False)
    every, threads = max(1, steps // 12), torch.get_num_threads()
    quiet = {"log_every": every, "checkpoint_every": 0, "preview_every": 0, "progress": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = MindMethod(codes, config, others, average=average, held_every=every, **options)
        torch.set_num_threads(1)  # layers this small: two threads wait for each other longer than they compute
        try:
            device = expert_device(expert).type
            history = train(method, Budget(steps), min(batch_size, len(data)), seed=seed, accelerator=device, **quiet)
        finally:
            torch.set_num_threads(threads)
    networks = dict(method.modules)
    if average is not None:
        networks["generator"] = history.averaged["generator"]
    gan = TransferredGAN(networks["generator"], expert, networks["critic"], codes)
    numbers = sum(p.numel() for module in networks.values() for p in module.parameters())
    return Transferred(gan, history, codes, numbers)


def new_tensors(gan: TransferredGAN) -> dict[str, Tensor]:
    """For a file: what was trained, the mean code, main directions; the frozen halves stay where they are.

    Raises:
        CourseError: the critic or the mean is missing.
    """
    if gan.critic is None or gan.mean is None:
        raise CourseError("a shipped MindGAN has its critic and its mean code: give critic= and codes=.")
    parts = {"generator": gan.generator, "critic": gan.critic}
    found = {f"{part}.{name}": t for part, module in parts.items() for name, t in module.state_dict().items()}
    if isinstance(gan.expert, MainDirections):
        found |= {f"expert.{name}": getattr(gan.expert, name) for name in ("mean", "directions")}
    return found | {"mean": gan.mean}


def open_transferred(name: str, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> TransferredGAN:
    """A shipped transferred GAN, frozen; its expert is opened by the name in the card.

    Args:
        name: for example ``avatar-mind2mind``.
        device: where to put it.
        folder: where weights and cards are; the expert's, too.

    Raises:
        CourseError: missing or foreign files, or a card of another kind.
    """
    tensors, card = load_weights(name, folder)
    if card.kind != KIND:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a MindGAN: choose avatar-mind2mind.")
    config = MindConfig(**card.config["networks"])
    networks = {"generator": MindGenerator(config), "critic": MindCritic(config)}
    for part, network in networks.items():
        prefix = f"{part}."
        network.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
        freeze(network.to(device))
    expert = load_halves(card.config["source"], device, folder)
    if "expert.directions" in tensors:
        expert = freeze(MainDirections(expert, tensors["expert.mean"], tensors["expert.directions"]))
    return TransferredGAN(**networks, expert=expert, codes=tensors["mean"][None])
