"""One interface over all generators of the course, whatever steers them, and opening one by its checkpoint's name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..bn_transfer.propagation import BN_KIND, load_bn_transfer
from ..errors import CourseError
from ..experts.autoencoder import LatentSpace
from ..experts.protocol import load_expert
from ..gans.alae import ALAE
from ..gans.stylegan import StyleGAN
from ..hypermod.generator import HYPER_KIND, HyperGenerator, Modulation, load_hypermod
from ..paths import CHECKPOINTS
from ..training.files import load_card

BATCH = 64  # pictures drawn at a time


class ConditionalGenerator:
    """Latent, class vector and noise to pictures; what it gives and takes is on the CPU.

    A new kind sets the attributes and fills ``_pictures(z, vectors, noise, truncation)``, see :meth:`draw`, and
    ``class_vectors`` where it has classes. ``name`` is that of the checkpoint.
    """

    size: int  # side of the pictures in pixels
    latent: int  # length of z
    blocks: int  # layers that can each be given a z and a class vector of their own, from coarse to fine
    synthesis: nn.Module | None = None  # the part that takes noise maps
    space: LatentSpace | None = None  # decodes what the network draws, where that is latents

    def __init__(self, network: nn.Module, classes: Sequence[str] = (), name: str = "this generator"):
        self.network, self.classes, self.name = network, list(classes), name
        self.device = next(network.parameters()).device

    def _no_classes(self) -> CourseError:
        return CourseError(f"{self.name} has no classes: choose another checkpoint, or leave the classes out.")

    def labels(self, names: Sequence[str]) -> Tensor:
        """``int64 (len(names),)``: positions in ``classes``; a CourseError where there is no such class."""
        if not self.classes:
            raise self._no_classes()
        for name in names:
            if name not in self.classes:
                known = ", ".join(self.classes[:12]) + (", …" if len(self.classes) > 12 else "")
                raise CourseError(f"{self.name} has no class {name!r}: it has {known}.")
        return torch.tensor([self.classes.index(name) for name in names], dtype=torch.int64)

    def class_vectors(self, labels: Tensor) -> Tensor:
        """Class indices ``(B,)`` → vectors ``(B, K)``. Any point between two of them may be drawn."""
        raise self._no_classes()

    def vectors_of(self, names: Sequence[str]) -> Tensor:
        """Class vectors ``(len(names), K)``."""
        return self.class_vectors(self.labels(names))

    def latents(self, count: int, seed: int) -> Tensor:
        """``(count, latent)``, standard normal; the first ones of a larger count are the same."""
        draws = torch.Generator().manual_seed(seed)
        # One by one: the last numbers of a tensor drawn at once depend on its size.
        return torch.stack([torch.randn(self.latent, generator=draws) for _ in range(count)])

    def noise(self, count: int, seed: int) -> list[Tensor]:
        """Noise maps for ``count`` pictures, ``(count, …)`` each; none where the generator takes none."""
        if self.synthesis is None:
            return []
        return [one.cpu() for one in self.synthesis.noise(count, torch.Generator().manual_seed(seed))]

    @torch.no_grad()
    def draw(
        self, z: Tensor, vectors: Tensor | None = None, noise: Sequence[Tensor] | None = None, truncation: float = 1.0
    ) -> Tensor:
        """Pictures ``(B, 3, size, size)`` in [−1, 1] on the CPU; equal arguments give equal pictures.

        Args:
            z: ``(B, latent)``, or one for each layer, ``(B, blocks, latent)``.
            vectors: class vectors ``(B, K)``, or one for each layer ``(B, blocks, K)``. None where the generator has no
                classes; a hyper-modulated one then draws its source domain.
            noise: of :meth:`noise`; that of seed 0 by default.
            truncation: 1 draws from the whole distribution, 0 the mean (StyleGAN: of the styles; BigGAN: z is scaled).
        """
        if z.shape[1:] not in ((self.latent,), (self.blocks, self.latent)):
            shapes = f"(B, {self.latent}) or (B, {self.blocks}, {self.latent})"
            raise CourseError(f"{self.name} takes z {shapes}, not {tuple(z.shape)}.")
        if vectors is not None and not self.classes:
            raise self._no_classes()
        if vectors is not None and (len(vectors) != len(z) or vectors.shape[1:-1] not in ((), (self.blocks,))):
            shapes = f"(B, K) or (B, {self.blocks}, K)"
            raise CourseError(f"{len(z)} pictures need as many class vectors {shapes}, not {tuple(vectors.shape)}.")
        noise = self.noise(len(z), 0) if noise is None else list(noise)
        pictures = []
        for part in torch.arange(len(z)).split(BATCH):
            given = None if vectors is None else vectors[part].to(self.device)
            maps = [one[part].to(self.device) for one in noise]
            drawn = self._pictures(z[part].to(self.device), given, maps, truncation)
            drawn = drawn if self.space is None else self.space.decode(drawn)
            pictures.append(drawn.float().clamp(-1, 1).cpu())
        return torch.cat(pictures)


class StylePictures(ConditionalGenerator):
    """A StyleGAN without classes: one noise map a block."""

    def __init__(self, network: StyleGAN | HyperGenerator, *about: Any):
        super().__init__(network, *about)
        self.size, self.latent = network.config.size, network.config.latent
        self.blocks, self.synthesis = len(network.synthesis.blocks), network.synthesis

    def _pictures(self, z: Tensor, vectors: Tensor | None, noise: list[Tensor], truncation: float) -> Tensor:
        return self.network(z, noise, truncation)


class ALAEPictures(ConditionalGenerator):
    """The generator half of an adversarial latent autoencoder: no classes, two styles and two noise maps a block."""

    def __init__(self, network: ALAE, *about: Any):
        super().__init__(network.generator, *about)
        self.size, self.latent, self.blocks = network.config.size, network.config.latent, network.config.slots
        self.synthesis = self.network.decoder

    def _pictures(self, z: Tensor, vectors: Tensor | None, noise: list[Tensor], truncation: float) -> Tensor:
        return self.network(z, noise, truncation)[0]


class HyperPictures(StylePictures):
    """A hyper-modulated StyleGAN; without class vectors it draws its source domain."""

    _made: tuple[Tensor, Modulation] | None = None

    @torch.no_grad()
    def class_vectors(self, labels: Tensor) -> Tensor:
        return self.network.classes(labels.to(self.device)).cpu()

    def _pictures(self, z: Tensor, vectors: Tensor | None, noise: list[Tensor], truncation: float) -> Tensor:
        if vectors is None:
            return self.network(z, None, noise, truncation)
        # Kernels are what costs: each distinct vector (or row of vectors) makes its own once, and those of one class
        # are kept, since a walk through z draws it again and again; the kernels of many would fill the memory.
        distinct, owner = vectors.unique(dim=0, return_inverse=True)
        known = self._made is not None and torch.equal(self._made[0], distinct)
        modulation = self._made[1] if known else self.network.modulation(distinct)
        self._made = (distinct, modulation) if len(distinct) == 1 else None
        return self.network(z, modulation, noise, truncation, owner)


class BigGANPictures(ConditionalGenerator):
    """A BigGAN with class embeddings, or new classes, one-hot, made from its old ones. z of a layer is its part of the
    noise vector."""

    def __init__(self, network: nn.Module, *about: Any):
        super().__init__(network, *about)
        config = network.config
        self.size, self.latent = config.size, config.noise
        # With tables, z enters at the first layer alone.
        self.blocks = 1 if config.embedding is None else len(config.generator)

    @torch.no_grad()
    def class_vectors(self, labels: Tensor) -> Tensor:
        vectors = self.network.embed(labels.to(self.device)).cpu()
        if vectors.ndim == 1:
            raise CourseError(f"{self.name} keeps a table in every layer and has no class vectors: it cannot be mixed.")
        return vectors

    def _pictures(self, z: Tensor, vectors: Tensor | None, noise: list[Tensor], truncation: float) -> Tensor:
        if vectors is None:
            raise CourseError(f"{self.name} draws nothing without a class: give class vectors.")
        if z.ndim == 3:
            parts = z.unflatten(2, (self.blocks, -1))
            z = torch.stack([parts[:, block, block] for block in range(self.blocks)], 1).flatten(1)
        # The first layer, before all blocks, sees no class.
        return self.network(truncation * z, vectors[:, 1:] if vectors.ndim == 3 else vectors)


OPENERS: dict[str, tuple[Callable[..., nn.Module], type[ConditionalGenerator]]] = {
    "stylegan": (load_expert, StylePictures),
    "alae": (load_expert, ALAEPictures),
    HYPER_KIND: (load_hypermod, HyperPictures),
    "biggan generator": (load_expert, BigGANPictures),
    BN_KIND: (load_bn_transfer, BigGANPictures),
}
"""Kind of a card → what opens its checkpoint, and what draws with it. A new kind of generator adds one line."""


def checkpoint_place(name: str | Path) -> tuple[str, Path]:
    """Name and folder of a checkpoint: ``avatar-biggan`` lies with the course's, anything with a slash is a path."""
    path = Path(name).expanduser()
    if path.suffix in (".safetensors", ".json"):
        path = path.with_suffix("")
    return path.name, CHECKPOINTS if path.parent == Path() else path.parent


def open_generator(name: str | Path, device: str | torch.device = "cpu") -> ConditionalGenerator:
    """A trained generator, frozen: a shipped one, such as ``avatar-biggan``, or the path of one's checkpoint; a
    CourseError for a missing or damaged file, or one that is no generator."""
    stem, folder = checkpoint_place(name)
    card = load_card(stem, folder)
    if card.kind not in OPENERS:
        raise CourseError(f"checkpoint {stem!r} is a {card.kind}, not a generator: choose a {' or a '.join(OPENERS)}.")
    load, pictures = OPENERS[card.kind]
    network = load(stem, torch.device(device), folder)
    classes = getattr(network, "class_names", None) or card.recipe.get("classes")
    if not classes and card.kind == "biggan generator":
        classes = [f"class {label}" for label in range(network.config.classes)]
    generator = pictures(network, classes or (), stem)
    if "space" in card.recipe:
        autoencoder = load_expert(card.recipe["space"], device)
        generator.space, generator.size = LatentSpace(autoencoder), autoencoder.config.size
    return generator
