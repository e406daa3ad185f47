"""A shipped generator with what transfers from it need, and the transfer of your own folders in one call."""

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data import ImageSet
from ..errors import CourseError
from ..experts import freeze, load_expert
from ..gans import Discriminator, Generator
from ..paths import CHECKPOINTS
from ..training import load_card
from .codes import load_code_space, picture_codes
from .data import new_classes, old_pictures
from .generator import TransferGenerator
from .run import TUNED, Transfer, TransferSettings, make_networks, run_transfer, similar_mixtures
from .stages import set_stage

__all__ = ["Kit", "learn_classes"]


class Kit:
    """Everything of the old classes, opened once.

    Args:
        source: name of the generator's checkpoint; its critic is ``NAME-critic`` and its code space ``NAME-codes``.
        device: where the networks are.
        folder: where weights and cards are.
        per_class: pictures of each old class that mixtures are found with.

    Attributes:
        source, critic, autoencoder: frozen networks.
        space: what codes are made in.
        old: some pictures of the old classes.
        old_names: what these are called.
    """

    def __init__(
        self,
        source: str = "biggan32",
        device: str | torch.device = "cpu",
        folder: Path = CHECKPOINTS,
        per_class: int = 20,
    ):
        self.source: Generator = load_expert(source, device, folder)
        self.critic: Discriminator = load_expert(f"{source}-critic", device, folder)
        self.autoencoder, self.space = load_expert("autoencoder64", device, folder), load_code_space(f"{source}-codes")
        self.old_names: list[str] = load_card(source, folder).recipe["classes"]
        self.old = old_pictures(self.old_names, per_class)

    def with_old(self, count: int, seed: int = 0) -> "Kit":
        """The same with only ``count`` of the old classes, drawn at random: how much do many of them help?

        Raises:
            CourseError: there are not so many, or the generator keeps tables.
        """
        if not 1 <= count <= len(self.old_names) or self.source.config.embedding is None:
            raise CourseError(f"choose from 1 to {len(self.old_names)} old classes of a generator with embeddings.")
        index = torch.randperm(len(self.old_names), generator=torch.Generator().manual_seed(seed))[:count].sort().values
        fewer = copy(self)
        fewer.source = _rows(self.source, "shared", index)
        fewer.critic = _rows(self.critic, "embed", index)
        fewer.old_names = [self.old_names[k] for k in index.tolist()]
        fewer.old = old_pictures(fewer.old_names, len(self.old) // len(self.old_names) + 1)
        return fewer

    def mixtures(self, data: ImageSet) -> Tensor:
        """Mixtures of old classes nearest to ``data`` in the features of the old critic, ``(new, old)``."""
        device = next(self.critic.parameters()).device
        size = self.source.config.size
        return similar_mixtures(data, self.old, lambda part: self.critic.features(part.to(device)), size)

    def codes(self, data: ImageSet) -> Tensor:
        """Codes of training pictures, see :func:`~course_lib.bn_transfer.codes.picture_codes`."""
        return picture_codes(self.autoencoder, data, self.space)

    def networks(
        self, data: ImageSet, settings: TransferSettings, seed: int = 0
    ) -> tuple[nn.Module, Discriminator, TransferSettings]:
        """Generator and critic for ``data``, and the settings with the codes of its pictures if they want them."""
        generator, critic = make_networks(self.source, self.critic, settings, self.mixtures(data), seed)
        if settings.options.get("reconstruction"):
            settings = replace(settings, options=settings.options | {"codes": self.codes(data)})
        if isinstance(generator, TransferGenerator):
            generator.class_names, generator.old_names = data.classes["class"], self.old_names
        return generator, critic, settings


def _rows(network: nn.Module, table: str, index: Tensor) -> nn.Module:
    """The same frozen network with some rows of its class table.

    A spectral norm would rescale the rows that are left, which only the critic's table has and which trains on anyway.
    """
    fewer = type(network)(replace(network.config, classes=len(index)))
    state = network.state_dict()
    state[f"{table}.weight"] = state[f"{table}.weight"][index]
    if f"{table}.u0" in state:
        state[f"{table}.u0"] = state[f"{table}.u0"][:, index]
    fewer.load_state_dict(state)
    return freeze(fewer.to(next(network.parameters()).device, memory_format=torch.channels_last))


def learn_classes(
    dataset: str = "emoji",
    steps: int = 200,
    ft_steps: int = 0,
    per_class: int | None = None,
    settings: TransferSettings | None = None,
    kit: Kit | None = None,
    seed: int = 0,
    **options: Any,
) -> Transfer:
    """New classes from pictures, in one call: ``learn_classes("folder:PATH")`` with one folder per class.

    Args:
        dataset: see :func:`~course_lib.bn_transfer.data.new_classes`.
        steps: of the first stage, which trains what belongs to the batch norms.
        ft_steps: of the second stage, which trains the convolutions as well, at a tenth of the learning rate.
        per_class: at most so many training pictures a class.
        settings: by default ``TUNED["propagation"]``.
        kit: the old generator; the shipped one by default.
        seed: of everything.
        options: of :func:`~course_lib.bn_transfer.run.run_transfer`.

    Raises:
        CourseError: the data set cannot be used, see :func:`~course_lib.bn_transfer.data.new_classes`.
    """
    kit, settings = kit or Kit(), settings or TUNED["propagation"]
    data = new_classes(dataset, per_class=per_class, seed=seed).part("train")
    generator, critic, settings = kit.networks(data, settings, seed)
    found = run_transfer(data, generator, critic, settings, steps, seed=seed, **options)
    if ft_steps and isinstance(generator, TransferGenerator):
        slow = settings.options | {"rate": 0.1 * settings.options.get("rate", 2e-4)}
        generator = set_stage(generator, "ft")
        found = run_transfer(data, generator, critic, replace(settings, options=slow), ft_steps, seed=seed, **options)
    return found
