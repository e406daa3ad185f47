"""One interface over all generators of the course; grids that show what classes, truncation and single layers do; the
six kinds of walk of the Hyper-Modulation code, except that a row keeps its noise maps, so that only the walk moves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..bn_transfer import BN_KIND, load_bn_transfer
from ..errors import CourseError
from ..experts.networks import LatentSpace
from ..experts.protocol import load_expert
from ..figures import picture_grid
from ..gans.alae import ALAE
from ..gans.stylegan import StyleGAN
from ..hypermod import HYPER_KIND, HyperGenerator, Modulation, load_hypermod
from ..profiles import CHECKPOINTS
from ..training.runs import atomic_write, load_card

BATCH = 64  # pictures drawn at a time


class ConditionalGenerator:
    """Latent, class vector and noise to pictures ``size`` wide; what it gives and takes is on the CPU. A new kind sets
    the attributes and fills ``_pictures(z, vectors, noise, truncation)``, see :meth:`draw`, and, where it has classes,
    ``class_vectors``: indices ``(B,)`` → vectors ``(B, K)``. ``name`` is that of the checkpoint."""

    latent: int  # length of z
    blocks: int  # layers that can each be given a z and a class vector of their own, from coarse to fine
    synthesis: nn.Module | None = None  # the part that takes noise maps
    space: LatentSpace | None = None  # decodes what the network draws, where that is latents

    def __init__(self, network: nn.Module, classes: Sequence[str] = (), name: str = "this generator"):
        self.network, self.classes, self.name = network, list(classes), name
        self.size, self.device = network.config.size, next(network.parameters()).device

    def _no_classes(self) -> CourseError:
        return CourseError(f"{self.name} has no classes: choose another checkpoint, or leave the classes out.")

    def labels(self, names: Sequence[str]) -> Tensor:
        """``int64 (len(names),)``: positions in ``classes``; a CourseError where there is no such class."""
        if not self.classes:
            raise self._no_classes()
        if unknown := [name for name in names if name not in self.classes]:
            known = ", ".join(self.classes[:12]) + (", …" if len(self.classes) > 12 else "")
            raise CourseError(f"{self.name} has no class {unknown[0]!r}: it has {known}.")
        return torch.tensor([self.classes.index(name) for name in names], dtype=torch.int64)

    def vectors_of(self, names: Sequence[str]) -> Tensor:
        """Class vectors ``(len(names), K)``. Any point between two of them may be drawn."""
        labels = self.labels(names)  # before class_vectors, which a generator without classes lacks
        return self.class_vectors(labels)

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
        """Pictures ``(B, 3, size, size)`` in [−1, 1] on the CPU; equal arguments give equal pictures. z ``(B, latent)``
        and class vectors ``(B, K)`` may be one for each layer, ``(B, blocks, …)``; without vectors a hyper-modulated
        generator draws its source domain. ``noise`` is of :meth:`noise`, by default of seed 0. ``truncation`` 1 draws
        from the whole distribution, 0 the mean (StyleGAN: of the styles; BigGAN: z is scaled)."""
        if z.shape[1:] not in ((self.latent,), (self.blocks, self.latent)):
            shapes = f"(B, {self.latent}) or (B, {self.blocks}, {self.latent})"
            raise CourseError(f"{self.name} takes z {shapes}, not {tuple(z.shape)}.")
        if vectors is not None and not self.classes:
            raise self._no_classes()
        if vectors is not None and (len(vectors) != len(z) or vectors.shape[1:-1] not in ((), (self.blocks,))):
            shapes = f"(B, K) or (B, {self.blocks}, K)"
            raise CourseError(f"{len(z)} pictures need as many class vectors {shapes}, not {tuple(vectors.shape)}.")
        noise, pictures = self.noise(len(z), 0) if noise is None else noise, []
        for part in torch.arange(len(z)).split(BATCH):
            given = None if vectors is None else vectors[part].to(self.device)
            maps = [one[part].to(self.device) for one in noise]
            drawn = self._pictures(z[part].to(self.device), given, maps, truncation)
            pictures.append((self.space.decode(drawn) if self.space else drawn).float().clamp(-1, 1).cpu())
        return torch.cat(pictures)


class StylePictures(ConditionalGenerator):
    """A StyleGAN without classes: one noise map a block."""

    def __init__(self, network: StyleGAN | HyperGenerator, *about: Any):
        super().__init__(network, *about)
        self.synthesis, self.latent = network.synthesis, network.config.latent
        self.blocks = len(self.synthesis.blocks)

    def _pictures(self, z: Tensor, vectors: Tensor | None, noise: list[Tensor], truncation: float) -> Tensor:
        return self.network(z, noise, truncation)


class ALAEPictures(ConditionalGenerator):
    """The generator half of an adversarial latent autoencoder: no classes, two styles and two noise maps a block."""

    def __init__(self, network: ALAE, *about: Any):
        super().__init__(network, *about)
        self.synthesis, self.latent = network.generator.decoder, network.config.latent
        self.blocks = network.config.slots

    def _pictures(self, z: Tensor, vectors: Tensor | None, noise: list[Tensor], truncation: float) -> Tensor:
        return self.network.generator(z, noise, truncation)[0]


class HyperPictures(StylePictures):
    """A hyper-modulated StyleGAN; without class vectors it draws its source domain."""

    _made: tuple[Tensor, Modulation] | None = None

    @torch.no_grad()
    def class_vectors(self, labels: Tensor) -> Tensor:
        return self.network.classes(labels.to(self.device)).cpu()

    def _pictures(self, z: Tensor, vectors: Tensor | None, noise: list[Tensor], truncation: float) -> Tensor:
        if vectors is None:
            return self.network(z, None, noise, truncation)
        # Kernels cost most: each distinct vector (or row of them) makes its own once; those of one class are kept, for
        # walks through z, but those of many would fill the memory.
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
        self.latent = network.config.noise
        # With tables, z enters at the first layer alone.
        self.blocks = 1 if network.config.embedding is None else len(network.config.generator)

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
    classes = getattr(network, "class_names", None) or card.recipe.get("classes", ())
    if not classes and card.kind == "biggan generator":
        classes = [f"class {label}" for label in range(network.config.classes)]
    generator = pictures(network, classes, stem)
    if "space" in card.recipe:
        autoencoder = load_expert(card.recipe["space"], device)
        generator.space, generator.size = LatentSpace(autoencoder), autoencoder.config.size
    return generator


@dataclass(frozen=True)
class Grid:
    """Pictures ``(R, C, 3, S, S)`` in [−1, 1], and titles of rows and columns, empty for none."""

    pictures: Tensor
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()

    def figure(self, enlarge: int = 2) -> Figure:
        """The grid with its titles, see :func:`course_lib.figures.picture_grid`."""
        # A title wider than its picture would run into the next one; eight points are some 0.06 inch a letter.
        letters = round(0.34 * enlarge / 0.062)
        columns = [fill(name, letters, break_long_words=False) for name in self.columns]
        return picture_grid(self.pictures, self.rows, columns, enlarge=enlarge)


def save_grid(grid: Grid, path: Path, enlarge: int = 2) -> None:
    """Writes the figure; a CourseError for a suffix that is no picture's, or a folder that cannot be written to."""
    kind = path.suffix.lower()
    if kind not in (".png", ".jpg", ".pdf", ".svg"):
        raise CourseError(f"{path.name} is no picture file: end its name in .png, .jpg, .pdf or .svg.")
    atomic_write(path, lambda part: grid.figure(enlarge=enlarge).savefig(part, format=kind[1:]))


@dataclass(frozen=True)
class Walk:
    """What to draw; a picture takes from it what it knows."""

    classes: Sequence[str] = ()  # names; empty takes the generator's own, from the first on
    steps: int = 8  # columns
    rows: int = 4
    seed: int = 0  # of z and noise
    truncation: float = 1.0  # see ConditionalGenerator.draw
    spherical: bool | None = None  # ways on an arc or straight; None: z on an arc, for Gaussian vectors have one length
    fresh_noise: bool = False  # new noise maps for every picture of a walk, as published
    cut: int = 2  # coarse layers where layers are mixed
    reach: float | None = None  # of the shifts; None for 1 in z and 0.1 in class vectors, as published

    def __post_init__(self) -> None:
        if self.steps < 2 or self.rows < 1:
            raise CourseError(f"a walk needs two steps and one row at least, not {self.steps} and {self.rows}.")


def draw_grid(
    generator: ConditionalGenerator, z: Tensor, vectors: Tensor | None, seed: int, share: str = "row", psi: float = 1.0
) -> Tensor:
    """Pictures ``(R, C, 3, S, S)`` of z ``(R, C, latent)`` or ``(R, C, blocks, latent)`` and class vectors, with K in
    the place of latent, or None; R or C may be 1 in one of them, which is then repeated. ``share`` says which pictures
    get the same noise maps of ``seed``: those of a ``row`` or ``column``, ``all`` or ``none``. ``psi`` truncates."""
    shape = torch.broadcast_shapes(z.shape[:2], z.shape[:2] if vectors is None else vectors.shape[:2])
    z = z.expand(*shape, *z.shape[2:]).flatten(0, 1)
    if vectors is not None:
        vectors = vectors.expand(*shape, *vectors.shape[2:]).flatten(0, 1)
    cells = torch.arange(shape.numel())
    owner = {"row": cells // shape[1], "column": cells % shape[1], "all": 0 * cells, "none": cells}[share]
    noise = [one[owner] for one in generator.noise(int(owner.max()) + 1, seed)]
    return generator.draw(z, vectors, noise, psi).unflatten(0, shape)


def _rows_of(generator: ConditionalGenerator, names: Sequence[str]) -> Tensor | None:
    """Class vectors ``(len(names), 1, K)``; None without names."""
    return generator.vectors_of(names)[:, None] if names else None


def _one_class(generator: ConditionalGenerator, walk: Walk) -> Tensor | None:
    """``(1, 1, K)`` of the class to stay in, the generator's first by default; None where it has none."""
    if len(walk.classes) > 1:
        raise CourseError(f"this picture shows one class, not {len(walk.classes)}: name one.")
    return _rows_of(generator, walk.classes or generator.classes[:1])


# --- grids ----------------------------------------


def class_grid(generator: ConditionalGenerator, walk: Walk) -> Grid:
    """A row for each class, all by default; down a column z and noise stay the same."""
    names = list(walk.classes or generator.classes)
    z = generator.latents(walk.steps, walk.seed)[None]
    return Grid(draw_grid(generator, z, _rows_of(generator, names), walk.seed, "column", walk.truncation), names)


def truncation_sweep(generator: ConditionalGenerator, walk: Walk, amounts: Sequence[float] | None = None) -> Grid:
    """From the mean picture to the whole distribution, an amount of truncation a column; a row keeps z and noise, and
    its class, which take turns."""
    amounts = amounts or [index / (walk.steps - 1) for index in range(walk.steps)]
    known = list(walk.classes or generator.classes)
    names = [known[row % len(known)] for row in range(walk.rows)] if known else []
    z, vectors = generator.latents(walk.rows, walk.seed)[:, None], _rows_of(generator, names)
    columns = [draw_grid(generator, z, vectors, walk.seed, "row", amount) for amount in amounts]
    return Grid(torch.cat(columns, 1), names, [f"ψ = {amount:.3g}" for amount in amounts])


def _mixed(generator: ConditionalGenerator, coarse: Tensor, fine: Tensor, cut: int) -> Tensor:
    """``(1, C, D)`` for layers before ``cut`` and ``(R, 1, D)`` for the rest → ``(R, C, blocks, D)``."""
    if generator.blocks == 1:
        raise CourseError(f"{generator.name} takes z at one layer only: its styles cannot be mixed.")
    if not 1 <= cut < generator.blocks:
        last = generator.blocks - 1
        raise CourseError(f"{generator.name} can change its style after layer 1 to {last}, not after {cut}.")
    shape = (len(fine), *coarse.shape[1:])
    return torch.stack([(coarse if block < cut else fine).expand(shape) for block in range(generator.blocks)], 2)


def style_mixing(generator: ConditionalGenerator, walk: Walk) -> Grid:
    """Layers before ``cut`` take z of the column, the others z of the row; the originals stand at the top and left. All
    pictures are of one class and have the same noise."""
    z = generator.latents(walk.rows + walk.steps, walk.seed)
    fine, coarse = z[: walk.rows, None], z[None, walk.rows :]
    shared = {"vectors": _one_class(generator, walk), "seed": walk.seed, "share": "all", "psi": walk.truncation}
    points = _mixed(generator, coarse, fine, walk.cut), coarse, fine
    mixed, top, left = (draw_grid(generator, one, **shared) for one in points)
    corner = torch.ones_like(top[:, :1])
    pictures = torch.cat([torch.cat([corner, top], 1), torch.cat([left, mixed], 1)])
    first, rest = range(1, walk.cut + 1), range(walk.cut + 1, generator.blocks + 1)
    top, left = (f"block{'s' * (len(part) > 1)} {', '.join(map(str, part))}" for part in (first, rest))
    return Grid(pictures, [f"top row:\n{top} →", *[""] * walk.rows], [f"left column: {left} ↓", *[""] * walk.steps])


def class_mixing(generator: ConditionalGenerator, walk: Walk) -> Grid:
    """Layers before ``cut`` get the class of the column, by default of the first six, the others that of the row; one z
    and one noise for all."""
    names = list(walk.classes or generator.classes[:6])
    one = generator.vectors_of(names)
    vectors = _mixed(generator, one[None], one[:, None], walk.cut)
    pictures = draw_grid(generator, generator.latents(1, walk.seed)[None], vectors, walk.seed, "all", walk.truncation)
    return Grid(pictures, [f"fine: {name}" for name in names], [f"coarse: {name}" for name in names])


# --- walks ----------------------------------------


def slerp(start: Tensor, end: Tensor, amount: float | Tensor) -> Tensor:
    """Spherical interpolation between vectors ``(..., D)``; lengths are interpolated too. ``amount`` 0 gives ``start``,
    1 gives ``end``; a tensor is broadcast against ``(..., 1)``. The straight line between two Gaussian vectors, all of
    length about √D, runs through short ones, which a generator has hardly seen; the arc does not."""
    first, second = (x.norm(dim=-1, keepdim=True) for x in (start, end))
    amount = torch.as_tensor(amount, dtype=start.dtype, device=start.device)
    length = torch.lerp(first, second, amount)
    angle = ((start * end).sum(-1, keepdim=True) / (first * second).clamp_min(1e-12)).clamp(-1, 1).arccos()
    weights = ((1 - amount) * angle).sin() / first.clamp_min(1e-12), (amount * angle).sin() / second.clamp_min(1e-12)
    arc = length * (weights[0] * start + weights[1] * end) / angle.sin().clamp_min(1e-12)
    # Between parallel vectors every way is a straight one.
    return torch.where(angle.sin() < 1e-4, torch.lerp(start, end, amount), arc)


def way(start: Tensor, end: Tensor, steps: int, spherical: bool) -> Tensor:
    """``(..., D)`` twice → ``(..., steps, D)``: from ``start`` to ``end``, both included."""
    amounts = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
    start, end = start[..., None, :], end[..., None, :]
    return slerp(start, end, amounts) if spherical else torch.lerp(start, end, amounts)


def _walked(
    generator: ConditionalGenerator, walk: Walk, z: Tensor, vectors: Tensor | None, share: str = "row"
) -> Tensor:
    return draw_grid(generator, z, vectors, walk.seed, "none" if walk.fresh_noise else share, walk.truncation)


def _positions(steps: int) -> list[str]:
    return [f"{position:.2g}" for position in torch.linspace(0, 1, steps).tolist()]


def _between_classes(generator: ConditionalGenerator, walk: Walk, both: bool) -> Grid:
    """From class to class. Every row has one z; with ``both``, rows go from one z to another, with one noise."""
    names = walk.classes or generator.classes[:2]
    if len(names) != 2:
        example = ",".join(generator.classes[:2]) or "first,second"
        raise CourseError(f"it goes between two classes, not {len(names)}: name two, for example --classes {example}.")
    vectors = way(*generator.vectors_of(names), walk.steps, bool(walk.spherical))[None]
    columns = [names[0], *_positions(walk.steps)[1:-1], names[1]]
    if not both:
        z = generator.latents(walk.rows, walk.seed)[:, None]
        return Grid(_walked(generator, walk, z, vectors), [], columns)
    z = way(*generator.latents(2, walk.seed), max(2, walk.rows), walk.spherical is not False)[:, None]
    rows = [f"z {name}" for name in _positions(len(z))]
    return Grid(_walked(generator, walk, z, vectors, "all"), rows, columns)


def _noise_walk(generator: ConditionalGenerator, walk: Walk) -> Grid:
    """From one z to another inside a class; every row has a pair of its own."""
    start, end = generator.latents(2 * walk.rows, walk.seed).unflatten(0, (walk.rows, 2)).unbind(1)
    z = way(start, end, walk.steps, walk.spherical is not False)
    return Grid(_walked(generator, walk, z, _one_class(generator, walk)), [], _positions(walk.steps))


def _random_samples(generator: ConditionalGenerator, walk: Walk) -> Grid:
    """Nothing but chance: every picture of the class has a z and noise of its own."""
    z = generator.latents(walk.rows * walk.steps, walk.seed).unflatten(0, (walk.rows, walk.steps))
    return Grid(_walked(generator, walk, z, _one_class(generator, walk), "none"))


def _shift(generator: ConditionalGenerator, walk: Walk, of_class: bool) -> Grid:
    """The same number, from −reach to reach, is added to every coordinate of z or of the class vector."""
    reach = (0.1 if of_class else 1.0) if walk.reach is None else walk.reach
    z, vectors = generator.latents(walk.rows, walk.seed)[:, None], _one_class(generator, walk)
    amounts = torch.linspace(-reach, reach, walk.steps)
    if not of_class:
        z = z + amounts[:, None]
    elif vectors is None:
        raise CourseError(f"{generator.name} has no classes to shift: choose another checkpoint.")
    else:
        vectors = vectors + amounts[None, :, None]
    return Grid(_walked(generator, walk, z, vectors), [], [f"{amount:+.2g}" for amount in amounts.tolist()])


KINDS: dict[str, Callable[[ConditionalGenerator, Walk], Grid]] = {
    "class-grid": class_grid,
    "truncation": truncation_sweep,
    "mixing": style_mixing,
    "class-mixing": class_mixing,
    "class": partial(_between_classes, both=False),
    "noise": _noise_walk,
    "class-noise": partial(_between_classes, both=True),
    "random-z": _random_samples,
    "z-shift": partial(_shift, of_class=False),
    "class-shift": partial(_shift, of_class=True),
}
"""Name → what draws it."""


def draw_kind(generator: ConditionalGenerator, kind: str, walk: Walk) -> Grid:
    """The picture called ``kind``; a CourseError where there is none, or it does not suit the generator or classes."""
    if kind not in KINDS:
        raise CourseError(f"there is no kind {kind!r} of picture: choose one of {', '.join(KINDS)}.")
    return KINDS[kind](generator, walk)
