"""Images with labels and captions, held as one tensor: no worker processes, no per-item decoding."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Self

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


def draw_tenths(
    split: Tensor, members: Tensor, draw: torch.Generator, parts: Sequence[int] = (1, 2), least: int = 1
) -> None:
    """Sets a random tenth of ``members``, indices into ``split``, to each of ``parts``, of ``least`` images or more."""
    members, tenth = members[torch.randperm(len(members), generator=draw)], max(least, len(members) // 10)
    for part in parts:
        split[members[:tenth]], members = part, members[tenth:]


@dataclass(frozen=True)
class ImageSet:
    """A data set in memory (or memory-mapped).

    Attributes:
        images: ``uint8 (N, 3, S, S)``.
        labels: name → ``int64 (N,)``, for example ``style``, ``domain``.
        classes: name → what each label value means; the same keys as ``labels``.
        captions: of each image, or empty.
        split: of each image 0 train, 1 val, 2 test, or empty.
    """

    name: str
    images: Tensor
    labels: dict[str, Tensor] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)
    captions: list[list[str]] = field(default_factory=list)
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
            raise CourseError(
                f"the data set {self.name!r} has no part {split!r}, only {present}: use one, or `random_split`."
            )
        return self.subset(mask)

    def random_split(self, seed: int = 0, label: str | None = None) -> Self:
        """The same set with a random 80/10/10 split; it needs three images. With ``label`` every class is split by
        itself, and those of fewer than ten images train with all."""
        if label is None and len(self) < 3:
            raise CourseError(f"{self.name!r} has {len(self)} images and a split needs at least 3: add some.")
        split, draw = torch.zeros(len(self), dtype=torch.int64), torch.Generator().manual_seed(seed)
        values = torch.zeros_like(split) if label is None else self.label(label)
        for value in values.unique():
            draw_tenths(split, (values == value).nonzero()[:, 0], draw, least=int(label is None))
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


def few_training_pictures(data: ImageSet, per_class: int, seed: int = 0) -> ImageSet:
    """As :func:`few_per_class` in the training part; the other parts of ``data`` stay whole."""
    rows = replace(data, images=torch.arange(len(data)))  # no picture is copied to choose among them
    few = few_per_class(rows.subset(data.split == 0), per_class, seed).images
    return data.subset(torch.cat([few, (data.split != 0).nonzero()[:, 0]]))
