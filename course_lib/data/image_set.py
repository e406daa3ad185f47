"""Images with labels and captions, held as one tensor, without worker processes and decoding; and pictures changed:
something taken away, shape and texture set against each other, or moved and warped.

Changes take and give ``(B, 3, S, S)`` in [−1, 1]. Geirhos et al. 2019 make a classifier rely on shape with *stylised*
pictures, painted over by style transfer, and test it with *cue conflicts*, the shape of one class in the texture of
another. Flat drawings need no style network, see :func:`stylise` and :func:`cue_conflict`. Warps follow the released
Net2Net code (``random_tps``): shapes change, and colours stay where they belong."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from math import pi
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CourseError

SPLITS = ("train", "val", "test")  # names of the fixed parts of a set


def to_float(images: Tensor) -> Tensor:
    """``uint8`` images in [0, 255] as ``float32`` in [−1, 1]."""
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Pictures in [−1, 1] as ``uint8``, rounded: the way back from :func:`to_float`."""
    return images.add(1).mul(127.5).round().to(torch.uint8)


def resize(images: Tensor, size: int) -> Tensor:
    """Square float images ``(B, 3, S, S)`` at ``size``: area average down, bicubic up, clamped to [−1, 1]. The one
    resampling of the course, so that no expert meets another one than in its training."""
    if images.shape[-1] == size:
        return images
    if size < images.shape[-1]:
        return F.interpolate(images, (size, size), mode="area")
    return F.interpolate(images, (size, size), mode="bicubic", align_corners=False).clamp(-1, 1)


def evenly_spaced(count: int, at_most: int | None) -> Tensor:
    """Up to ``at_most`` indices below ``count``, evenly spaced and rising."""
    if at_most is not None and at_most < 1:
        raise CourseError(f"max_images={at_most} leaves no image: give a positive number, or None for all.")
    if at_most is None or at_most >= count:
        return torch.arange(count)
    return torch.arange(at_most) * count // at_most


def _draw_tenths(split: Tensor, rows: Tensor, draw: torch.Generator, parts: Sequence[int], least: int = 1) -> None:
    """Sets a random tenth of ``rows``, indices into ``split``, to each of ``parts``, of ``least`` images or more."""
    rows, tenth = rows[torch.randperm(len(rows), generator=draw)], max(least, len(rows) // 10)
    for part in parts:
        split[rows[:tenth]], rows = part, rows[tenth:]


@dataclass(frozen=True)
class ImageSet:
    """A data set in memory (or memory-mapped)."""

    name: str
    images: Tensor  # uint8 (N, 3, S, S)
    labels: dict[str, Tensor] = field(default_factory=dict)  # name → int64 (N,), for example style, domain
    classes: dict[str, list[str]] = field(default_factory=dict)  # what each value means; the same keys as labels
    captions: list[list[str]] = field(default_factory=list)  # of each image, or empty
    # Of each image 0 train, 1 val, 2 test, or empty.
    split: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """Side of the square images in pixels."""
        return self.images.shape[-1]

    def content_hash(self, labels: bool = True) -> str:
        """SHA-256 of the pictures, and of labels, classes and split: the key of what is stored about a set."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        for part in self.images.split(1024):
            digest.update(part.cpu().contiguous().numpy())
        if labels:
            values = {name: one.tolist() for name, one in sorted(self.labels.items())}
            digest.update(json.dumps([values, self.classes, self.split.tolist()], sort_keys=True).encode())
        return digest.hexdigest()

    def _images_at(self, index: Tensor) -> Tensor:
        return self.images[index.to(self.images.device)]

    def subset(self, index: Tensor | Sequence[int]) -> Self:
        """The images at ``index``, in that order; a boolean mask works too."""
        index = torch.as_tensor(index)
        index = index.nonzero()[:, 0] if index.dtype == torch.bool else index.to(torch.int64)
        return replace(
            self,
            images=self._images_at(index),
            labels={name: values[index] for name, values in self.labels.items()},
            captions=[self.captions[i] for i in index.tolist()] if self.captions else [],
            split=self.split[index] if len(self.split) else self.split,
        )

    def part(self, split: str) -> Self:
        """A fixed part, one of ``SPLITS``; a CourseError where the set has none."""
        if split not in SPLITS:
            raise CourseError(f"there is no split {split!r}: choose one of {', '.join(SPLITS)}.")
        if not len(self.split):
            raise CourseError(f"the data set {self.name!r} has no fixed split: use all of it, or `random_split`.")
        mask = self.split == SPLITS.index(split)
        if not mask.any():
            present = ", ".join(SPLITS[k] for k in self.split.unique().tolist())
            raise CourseError(f"{self.name!r} has no part {split!r}, only {present}: use one, or `random_split`.")
        return self.subset(mask)

    def random_split(self, seed: int = 0, label: str | None = None) -> Self:
        """The same set with a random 80/10/10 split; it needs three images. With ``label`` every class is split by
        itself, and those of fewer than ten images train with all."""
        if label is None and len(self) < 3:
            raise CourseError(f"{self.name!r} has {len(self)} images and a split needs at least 3: add some.")
        split, draw = torch.zeros(len(self), dtype=torch.int64), torch.Generator().manual_seed(seed)
        values = torch.zeros_like(split) if label is None else self.label(label)
        for value in values.unique():
            _draw_tenths(split, (values == value).nonzero()[:, 0], draw, (1, 2), int(label is None))
        return replace(self, split=split)

    def with_all_parts(self) -> Self:
        """Parts of the split that are missing are drawn from the training pictures, with a fixed seed."""
        if not len(self.split):
            return self.random_split()
        split, missing = self.split.clone(), [part for part in (1, 2) if not (self.split == part).any()]
        _draw_tenths(split, (split == 0).nonzero()[:, 0], torch.Generator().manual_seed(0), missing)
        return replace(self, split=split)

    def label(self, name: str) -> Tensor:
        """The label of this name; a CourseError says which there are."""
        if name not in self.labels:
            raise CourseError(f"{self.name!r} has no label {name!r}: it has {', '.join(self.labels) or 'none'}.")
        return self.labels[name]

    def value_index(self, name: str, value: str) -> int:
        """The number of a value of a label; a CourseError says which values there are."""
        self.label(name)
        if value not in self.classes[name]:
            raise CourseError(f"{name!r} has no value {value!r}: it is one of {', '.join(self.classes[name][:12])}, …")
        return self.classes[name].index(value)

    def where(self, **labels: str) -> Self:
        """The images whose labels have these values, for example ``where(style="noto")``."""
        found = self
        for name, value in labels.items():
            found = found.subset(found.label(name) == found.value_index(name, value))
        return found

    def to(self, device: torch.device | str) -> Self:
        """The set with its images on ``device``, so that batches are made there. Labels stay on the CPU."""
        return replace(self, images=self.images.to(device))

    def batch(self, index: Tensor, size: int | None = None, flip: Tensor | None = None) -> Tensor:
        """Images at ``index (B,)`` as ``float32 (B, 3, size, size)`` in [−1, 1]; the stored size by default. ``flip``,
        ``bool (B,)``, says which to mirror left to right."""
        images = to_float(self._images_at(index))
        if flip is not None:
            images = torch.where(flip.to(images.device)[:, None, None, None], images.flip(-1), images)
        return images if size is None else resize(images, size)

    def batches(self, batch_size: int, size: int | None = None) -> Iterator[Tensor]:
        """All images in order, as float batches: for encoding and for evaluation."""
        for index in torch.arange(len(self)).split(batch_size):
            yield self.batch(index, size)


def concatenate(sets: Sequence[ImageSet]) -> ImageSet:
    """Joins sets of one size. Only labels that mean the same in all survive; ``domain`` is the set that an image came
    from: its name, numbered where names repeat."""
    if not sets:
        raise CourseError("there is nothing to concatenate: give at least one data set.")
    if len({one.size for one in sets}) > 1:
        sizes = ", ".join(f"{one.name} {one.size} px" for one in sets)
        raise CourseError(f"sets of different sizes cannot be joined ({sizes}): load them with one `size=`.")
    first, names = sets[0], [one.name for one in sets]
    shared = [name for name, values in first.classes.items() if all(one.classes.get(name) == values for one in sets)]
    classes = {name: first.classes[name] for name in shared if name != "domain"}
    labels = {name: torch.cat([one.labels[name] for one in sets]) for name in classes}
    if len(set(names)) < len(names):  # `where(domain=…)` must find each of them
        names = [f"{name} {k + 1}" for k, name in enumerate(names)]
    return ImageSet(
        name="+".join(one.name for one in sets),
        images=torch.cat([one.images for one in sets]),
        labels=labels | {"domain": torch.arange(len(sets)).repeat_interleave(torch.tensor([len(s) for s in sets]))},
        classes=classes | {"domain": names},
        captions=list(chain.from_iterable(one.captions for one in sets)) if all(one.captions for one in sets) else [],
        split=torch.cat([one.split for one in sets]) if all(len(one.split) for one in sets) else first.split[:0],
    )


# --- few pictures of some classes ----------------------------------------


def regroup(data: ImageSet, groups: Mapping[str, Sequence[str]], label: str) -> ImageSet:
    """The pictures whose ``label`` is in one of the groups (class → values of ``label``, each in one group at most),
    with a new label ``class``: which group."""
    given = data.label(label)
    owner = torch.full((len(data.classes[label]),), -1)
    for number, values in enumerate(groups.values()):
        for value in values:
            index = data.value_index(label, value)
            if owner[index] >= 0:
                raise CourseError(f"{value!r} is in two groups: give it to one.")
            owner[index] = number
    found = owner[given]
    kept = data.subset(found >= 0)
    labels, classes = kept.labels | {"class": found[found >= 0]}, kept.classes | {"class": list(groups)}
    return replace(kept, labels=labels, classes=classes)


def few_per_class(data: ImageSet, count: int, seed: int = 0, label: str = "class") -> ImageSet:
    """At most ``count`` random pictures of each class; with one seed, fewer pictures are part of more pictures."""
    if count < 1:
        raise CourseError(f"a class needs at least one picture, not {count}.")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    shuffled = data.label(label)[order]
    return data.subset(torch.cat([order[shuffled == value][:count] for value in shuffled.unique()]).sort().values)


def few_training_pictures(data: ImageSet, per_class: int | None, seed: int = 0) -> ImageSet:
    """As :func:`few_per_class` in the training part, None for all; the other parts of ``data`` stay whole."""
    if per_class is None:
        return data
    rows = replace(data, images=torch.arange(len(data)))  # no picture is copied to choose among them
    few = few_per_class(rows.subset(data.split == 0), per_class, seed).images
    return data.subset(torch.cat([few, (data.split != 0).nonzero()[:, 0]]))


def luminance(images: Tensor) -> Tensor:
    """Luma ``(B, S, S)`` in [−1, 1], by the weights of ITU-R BT.601."""
    return torch.einsum("bchw,c->bhw", images, images.new_tensor([0.299, 0.587, 0.114]))


def grey(images: Tensor) -> Tensor:
    """Without colour, in three equal channels: the input of colourisation."""
    return luminance(images)[:, None].expand_as(images).contiguous()


def edges(images: Tensor) -> Tensor:
    """Dark lines on white where a picture changes: no colour, no filled area. A line is black from a difference of 0.6
    between neighbours on; softer steps leave fainter lines."""
    channels = images.shape[1]
    across = images.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    kernels = torch.stack([across, across.T])[:, None].repeat(channels, 1, 1, 1)
    gradient = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernels, groups=channels)
    # The strongest channel counts: red on green of equal brightness is an edge too.
    strength = gradient.unflatten(1, (channels, 2)).norm(dim=2).amax(1, keepdim=True)
    return (1 - 2 * (strength / 0.6).clamp(0, 1)).expand(-1, 3, -1, -1).contiguous()


def grey_square(images: Tensor) -> Tensor:
    """With a grey square in the middle, half as wide as the picture: the input of inpainting."""
    low, covered = round(images.shape[-1] / 4), images.clone()
    covered[..., low:-low, low:-low] = 0.0
    return covered


# --- shape against texture ----------------------------------------


def _smooth_noise(count: int, size: int, cells: int, generator: torch.Generator) -> Tensor:
    """Noise ``(count, size, size)`` of standard deviation about 1 whose blobs are ``size / cells`` wide."""
    coarse = torch.randn(count, 1, cells, cells, generator=generator)
    return F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)[:, 0] * 1.5


def stylise(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random colours and textures on the same shapes.

    Half of the pictures get the palette of the next one in the batch (:func:`cue_conflict`). The others are mapped
    through a random curve in colour space: a random mix of the channels, plus smooth noise, is the place on it."""
    count, size, last = len(images), images.shape[-1], 5  # of the curve's points
    cells = int(torch.randint(4, 17, (), generator=generator))
    noise = _smooth_noise(count, size, cells, generator).to(images)
    mix = torch.randn(count, 3, generator=generator).to(images)
    mix = mix / mix.abs().sum(1, keepdim=True)
    place = torch.einsum("bchw,bc->bhw", images, mix) * 0.5 + 0.5 + 0.06 * noise
    place = place.clamp(0, 1) * last
    points = (torch.rand(count, 3, last + 1, generator=generator) * 2 - 1).to(images)
    left = place.floor().clamp(max=last - 1)
    index = left.long().flatten(1)[:, None].expand(-1, 3, -1)
    weight = (place - left).flatten(1)[:, None]
    curve = points.gather(2, index) * (1 - weight) + points.gather(2, index + 1) * weight
    swapped = cue_conflict(images, images.roll(1, 0), generator)
    chosen = (torch.rand(count, generator=generator) < 0.5).to(images.device)
    return torch.where(chosen[:, None, None, None], swapped, curve.view_as(images))


def cue_conflict(shapes: Tensor, textures: Tensor, generator: torch.Generator) -> Tensor:
    """The shapes, outlines and white areas of some pictures in the colours of others.

    Pixels that are not white are ranked by brightness in both pictures; the one of a rank gets the colour that has
    this rank in the other. Ties, which flat areas are full of, are broken by smooth noise."""
    size = shapes.shape[-1]
    empty = [(x.amin(1) > 0.9).flatten(1) for x in (shapes, textures)]  # as white as paper
    filled = [(~mask).sum(1, keepdim=True).clamp_min(1) for mask in empty]
    noise = _smooth_noise(len(shapes), size, 12, generator).to(shapes).flatten(1)
    # 4 is brighter than any pixel: white comes last in both orders.
    rank = (luminance(shapes).flatten(1) + 0.05 * noise).masked_fill(empty[0], 4.0).argsort(1).argsort(1)
    order = luminance(textures).flatten(1).masked_fill(empty[1], 4.0).argsort(1)
    wanted = (rank * filled[1] // filled[0]).clamp(max=rank.shape[1] - 1)
    source = order.gather(1, wanted)
    colours = textures.flatten(2).gather(2, source[:, None].expand(-1, 3, -1)).view_as(shapes)
    return torch.where(empty[0].view(-1, 1, size, size), shapes, colours)


def shuffle_patches(images: Tensor, generator: torch.Generator, patch: int = 8) -> Tensor:
    """Cuts every picture into squares of ``patch`` pixels, which tile it, in random order: shape is gone."""
    count, channels, size, _ = images.shape
    cells = size // patch
    patches = images.view(count, channels, cells, patch, cells, patch).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    order = torch.rand(count, cells * cells, generator=generator).argsort(1).to(images.device)
    patches = patches.gather(1, order[:, :, None, None, None].expand_as(patches))
    return patches.unflatten(1, (cells, cells)).permute(0, 3, 1, 4, 2, 5).reshape(images.shape)


# --- moved ----------------------------------------


def affine(images: Tensor, generator: torch.Generator, share: float = 1.0) -> Tensor:
    """Zoom 0.8–1.2, shift up to 8 %, rotation up to 10° of ``share`` of the images; the border that appears is white.

    Resampling blurs: keep ``share`` small where a network is to draw sharp edges."""
    count = len(images)
    draw = torch.rand(4, count, generator=generator) * 2 - 1
    chosen = (torch.rand(count, generator=generator) < share).nonzero()[:, 0].to(images.device)
    angle, zoom = draw[0] * pi / 18, 1.0 + 0.2 * draw[1]
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    matrix = torch.stack([cos, -sin, 0.16 * draw[2], sin, cos, 0.16 * draw[3]], 1).view(count, 2, 3)
    grid = F.affine_grid(matrix.to(images)[chosen], [len(chosen), *images.shape[1:]], align_corners=False)
    # grid_sample pads with zeros, so white is made zero for a moment.
    changed = F.grid_sample(images[chosen] - 1.0, grid, align_corners=False) + 1.0
    return images.index_copy(0, chosen, changed)


CONTROL_POINTS = 4
"""Control points of a warp along each side, the border included."""


def _points(side: int = CONTROL_POINTS) -> Tensor:
    """``(side², 2)``: x and y in [−1, 1], row by row, ``float64``."""
    line = torch.linspace(-1, 1, side, dtype=torch.float64)
    return torch.cartesian_prod(line, line).flip(1)


@lru_cache(maxsize=4)
def _basis(size: int) -> Tensor:
    """``(size², P)``: how far every pixel follows each control point; linear, so it is solved once for all pictures."""
    from scipy.interpolate import RBFInterpolator  # here: it takes a second to load

    follow = RBFInterpolator(_points().numpy(), np.eye(CONTROL_POINTS**2), kernel="thin_plate_spline", degree=1)
    return torch.from_numpy(follow(_points(size).numpy())).float()


def displacements(count: int, generator: torch.Generator, strength: float) -> Tensor:
    """Random moves of the control points, ``(count, P, 2)`` in units of half the picture's side: uniform in ±strength/4
    (1 in the released code), cut at the border, whose points stay on their side of it."""
    points = _points().float()
    moves = (torch.rand(count, len(points), 2, generator=generator) * 2 - 1) * strength / 4
    return ((points + moves).clamp(-1, 1) - points) * (points.abs() < 1)


def warp(images: Tensor, moves: Tensor) -> Tensor:
    """Deforms pictures: the pixel at a control point shows what lies where that point has moved to. ``moves`` is
    ``(B, P, 2)``, see :func:`displacements`; what is warped with the same moves stays aligned."""
    size = images.shape[-1]
    places = _basis(size).to(images) @ (_points().float().to(images) + moves.to(images))
    grid = places.view(len(images), size, size, 2)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=True)
