"""Training of the frozen experts of avatars: grid autoencoder, classifiers, segmenter, and the judge, which scores."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.avatars import KINDS, fresh_kinds, load_kinds, load_people, people_parts
from ..data.image_set import ImageSet, affine, concatenate, edges, shuffle_patches, stylise
from ..data.people import ATTRIBUTES, PARTS, STYLES
from ..evaluation.scores import Judge, frechet_distance, measure_bias
from ..experts import networks
from ..experts.networks import Classifier, ClassifierConfig, GridAutoencoder, GridAutoencoderConfig, LatentSpace
from ..profiles import seed_everything
from ..training.runs import Card, Loss, Method
from .recipe import Job, data_hash, on_held_out, publish

Change = Callable[[Tensor, torch.Generator], Tensor]
"""Float pictures ``(B, 3, S, S)`` and a CPU generator → changed pictures."""


def _warm_cosine(progress: float, warm: float = 0.05, last: float = 0.0) -> float:
    """Up over the share ``warm`` of the run, then down to ``last`` along a cosine."""
    return min(1.0, progress / warm + 0.02) * ((1 + last) / 2 + (1 - last) / 2 * math.cos(math.pi * progress))


def shifted(images: Tensor, generator: torch.Generator, pixels: int, mode: str = "constant") -> Tensor:
    """The whole batch moved by up to ``pixels`` in each direction; the margin is white, or what ``F.pad`` makes it."""
    dx, dy = torch.randint(0, 2 * pixels + 1, (2,), generator=generator).tolist()
    size = images.shape[-1]
    padded = F.pad(images, (pixels,) * 4, mode, 1.0 if mode == "constant" else None)
    return padded[:, :, dy : dy + size, dx : dx + size].contiguous(memory_format=torch.channels_last)


def _evenly(sets: Sequence[ImageSet], count: int, size: int) -> Tensor:
    """About ``count`` pictures of each set, evenly spaced, ``(N, 3, size, size)``."""
    return torch.cat([one.batch(torch.arange(0, len(one), max(1, len(one) // count)), size) for one in sets])


def _sets() -> tuple[ImageSet, ImageSet]:
    """People, whose style is also their kind, and the thirty other kinds."""
    people, kinds = load_people(), load_kinds()
    kind = {"kind": people.labels["style"]}
    people = replace(people, labels=people.labels | kind, classes=people.classes | {"kind": kinds.classes["kind"]})
    return people, kinds.subset(kinds.labels["kind"] >= len(STYLES))


class ClassifierMethod(Method):
    """Cross-entropy over all heads; with a projection head also a contrastive loss between two styles of one picture
    (InfoNCE, van den Oord et al. 2018), so that features agree on what is shown whatever the style. With a projection
    ``data`` has a label ``style`` and is ordered style by style. Of ``others``, pictures of other things, half as many
    join each batch; heads whose label a picture lacks learn nothing from it. Half of a batch is ``mirrored``, all of it
    shifted a little, then handed to ``change``."""

    moved = ("data", "labels", "others")
    temperature = 0.1

    def __init__(
        self,
        data: ImageSet,
        config: ClassifierConfig,
        others: ImageSet | None = None,
        change: Change | None = None,
        mirrored: bool = False,
    ):
        super().__init__()
        self.data, self.config, self.others, self.change, self.mirrored = data, config, others, change, mirrored
        self.labels = self._labels(data)
        # A contrastive batch draws pictures and shows each in two styles; a plain one draws images.
        self.length = len(data) // len(data.classes["style"]) if config.projection else len(data)
        net = Classifier(config).to(memory_format=torch.channels_last)
        self.modules = {"classifier": net}
        self.optimizers = {"classifier": torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.02, fused=True)}
        self.ema = {"classifier": 0.995}

    def _labels(self, data: ImageSet) -> Tensor:
        """``(N, heads)``, −1 where the set lacks the label."""
        missing = torch.full((len(data),), -1)
        return torch.stack([data.labels.get(name, missing) for name in self.config.heads], 1)

    def batch(self, index: Tensor, generator: torch.Generator) -> Any:
        if self.config.projection:
            order = torch.rand(len(index), len(self.data) // self.length, generator=generator).argsort(1)[:, :2]
            index = torch.cat([index + self.length * order[:, 0], index + self.length * order[:, 1]])
        images, labels = self.data.batch(index), self.labels[index.to(self.labels.device)]
        if self.others is not None:
            index = torch.randint(len(self.others), (len(index) // 2,), generator=generator)
            images = torch.cat([images, self.others.batch(index)])
            labels = torch.cat([labels, self._labels(self.others)[index].to(labels.device)])
        if self.mirrored:
            flip = torch.rand(len(images), generator=generator) < 0.5
            images = torch.where(flip.to(images.device)[:, None, None, None], images.flip(-1), images)
        images = shifted(images, generator, 4)
        if self.change is not None:
            images = self.change(images.contiguous(), generator).contiguous(memory_format=torch.channels_last)
        return images, labels

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        images, labels = batch
        outputs = self.modules["classifier"](images)
        parts = {
            name: F.cross_entropy(outputs[name].float(), labels[:, k], ignore_index=-1, label_smoothing=0.05)
            for k, name in enumerate(self.config.heads)
        }
        if self.config.projection:
            paired = len(images) if self.others is None else len(images) * 2 // 3
            first, second = outputs["projection"][:paired].float().chunk(2)
            similarity = first @ second.T / self.temperature
            target = torch.arange(len(first), device=similarity.device)
            parts["contrastive"] = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
        yield Loss("classifier", sum(parts.values()), {f"loss/{name}": value for name, value in parts.items()})

    learning_rate = staticmethod(_warm_cosine)


def _distorted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turned, stretched and noisy: the judge learns from such pictures, so that it reads generated ones calmly."""
    images = affine(images, generator, 0.3)
    strength = 0.1 * torch.rand(len(images), 1, 1, 1, generator=generator)
    return images + (strength * torch.randn(images.shape, generator=generator)).to(images)


@torch.no_grad()
def accuracy(net: Classifier, data: ImageSet) -> dict[str, float]:
    """Share of right answers of each head whose label ``data`` has."""
    device = next(net.parameters()).device
    outputs = [net(batch.to(device)) for batch in data.batches(250)]
    return {
        name: (torch.cat([o[name] for o in outputs]).argmax(1).cpu() == data.labels[name]).float().mean().item()
        for name in net.config.heads
        if name in data.labels
    }


def with_mean(found: dict[str, float]) -> dict[str, float]:
    """What :func:`accuracy` found and its mean, under the names that cards have."""
    named = {f"{head} accuracy": value for head, value in found.items()}
    return named | {"mean accuracy": sum(found.values()) / len(found)}


HEADS: dict[str, tuple[int, int, Change | None, str]] = {
    "avatar-classifier": (24, 0, None, "Expert; never used for scores."),
    "avatar-judge": (28, 128, _distorted, "Features for all distances, attributes for all scores of avatars."),
}
"""Name → width, length of the retrieval embedding (0 for none), how training pictures are changed, notes."""


def train_heads(job: Job, name: str) -> Card:
    """A key of :data:`HEADS`, for kind (its accuracy: mean over people and other kinds), skin, hair, cut, glasses and
    mouth. No taught method ever sees the judge, which has a seed of its own."""
    width, projection, change, notes = HEADS[name]
    people, kinds = _sets()
    heads = {"kind": len(kinds.classes["kind"])} | {key: len(values) for key, values in ATTRIBUTES.items()}
    config = ClassifierConfig(heads, width, projection)
    if projection:
        seed_everything(job.seed + 1000)
    method = ClassifierMethod(people.part("train"), config, kinds.part("train"), change)
    size, steps = 32 if projection else 64, job.profile.pick(quick=60, cpu=2500, gpu=20000)
    history = job.run(name, method, size, steps, last=True, precision="bf16-mixed")
    net = history.averaged["classifier"].eval()

    def score(part: str) -> dict[str, float]:
        found = accuracy(net, people.part(part))
        found["kind"] = (found["kind"] + accuracy(net, kinds.part(part))["kind"]) / 2
        return with_mean(found)

    card = Card(name, "classifier", vars(config), {"batch_size": size}, data=data_hash(people), notes=notes)
    card.metrics = on_held_out(score)
    return publish(job, card, net.state_dict(), history, "mean accuracy on val", higher=True)


def _stylised_or_drawn(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the pictures stylised, the others as edges."""
    drawn = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(drawn.to(images.device)[:, None, None, None], edges(images), stylise(images, generator))


BIASES: dict[str, tuple[Change, str, str]] = {
    "classifier-shape": (_stylised_or_drawn, "edges on val", "Trained on stylised pictures and edges, half and half."),
    "classifier-texture": (shuffle_patches, "shuffled on val", "Trained on shuffled patches of 8 pixels."),
}
"""Name → how training pictures are changed, the score that decides, notes. Of stylised pictures and line drawings only
shape tells the class: colours and textures are random or missing. Of shuffled patches only those tell it."""


def train_biased(job: Job, name: str) -> Card:
    """A key of :data:`BIASES`. Same network, same first weights, same order of pictures, same budget for both."""
    change, primary, notes = BIASES[name]
    data = load_kinds()
    config = ClassifierConfig({"kind": len(data.classes["kind"])}, width=12)
    method = ClassifierMethod(data.part("train"), config, change=change, mirrored=True)
    history = job.run(name, method, 64, job.profile.pick(quick=60, cpu=1500, gpu=20000), last=True)
    net = history.averaged["classifier"].eval()
    card = Card(name, "classifier", vars(config), {"batch_size": 64}, data=data_hash(data), notes=notes)
    card.metrics = on_held_out(lambda part: measure_bias(net, data.part(part)))
    return publish(job, card, net.state_dict(), history, primary, higher=True)


def label_cells(labels: Tensor, classes: int) -> Tensor:
    """Class of every 2×2 cell, ``uint8 (N, S/2, S/2)``: the majority of its pixels' classes ``(N, S, S)``."""
    votes = F.one_hot(labels.long(), classes).permute(0, 3, 1, 2).float()
    return F.avg_pool2d(votes, 2).argmax(1).to(torch.uint8)


class SegmenterMethod(Method):
    """Cross-entropy on every cell, of classes ``uint8 (N, S/2, S/2)``; rare ones count more, by its root."""

    moved = ("data", "labels", "weight")

    def __init__(self, data: ImageSet, labels: Tensor, config: networks.SegmenterConfig):
        super().__init__()
        self.data, self.labels, self.length = data, labels, len(data)
        counts = torch.bincount(labels.flatten().int(), minlength=config.classes).float()
        self.weight = (counts.sum() / counts.clamp_min(1)).sqrt()
        self.weight /= (self.weight * counts).sum() / counts.sum()
        net = networks.Segmenter(config).to(memory_format=torch.channels_last)
        self.modules = {"segmenter": net}
        self.optimizers = {"segmenter": torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=0.01, fused=True)}
        self.ema = {"segmenter": 0.99}

    def batch(self, index: Tensor, generator: torch.Generator) -> Any:
        flip = torch.rand(len(index), generator=generator) < 0.5
        labels = self.labels[index.to(self.labels.device)].long()
        labels = torch.where(flip.to(labels.device)[:, None, None], labels.flip(-1), labels)
        return self.data.batch(index, flip=flip), labels

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        images, labels = batch
        logits = self.modules["segmenter"](images)
        value = F.cross_entropy(logits, labels, self.weight)
        yield Loss("segmenter", value, {"accuracy": (logits.argmax(1) == labels).float().mean()})

    learning_rate = staticmethod(_warm_cosine)


@torch.no_grad()
def segmentation_scores(net: networks.Segmenter, data: ImageSet, labels: Tensor) -> dict[str, float]:
    """``pixel accuracy`` and ``mIoU`` on cells of ``data``: intersection over union, mean over classes that occur."""
    device, count = next(net.parameters()).device, net.config.classes
    table = torch.zeros(count, count)
    for images, wanted in zip(data.batches(250), labels.split(250), strict=True):
        found = net.segment(images.to(device)).cpu()
        table += torch.bincount((wanted.long() * count + found).flatten(), minlength=count**2).view(count, count)
    union = table.sum(0) + table.sum(1) - table.diagonal()
    right = (table.diagonal().sum() / table.sum()).item()
    return {"pixel accuracy": right, "mIoU": (table.diagonal() / union)[union > 0].mean().item()}


def train_segmenter(job: Job) -> Card:
    """The segmenter of people: five parts on a 32×32 grid, in all six styles."""
    data = load_people()
    labels = torch.cat([label_cells(some, len(PARTS)) for some in people_parts().split(1000)])
    rows = {part: data.split == number for number, part in enumerate(("train", "val", "test"))}
    method = SegmenterMethod(data.subset(rows["train"]), labels[rows["train"]], networks.SegmenterConfig(len(PARTS)))
    history = job.run("avatar-segmenter", method, 64, job.profile.pick(quick=60, cpu=700, gpu=10000), last=True)
    net = history.averaged["segmenter"].eval()
    card = Card("avatar-segmenter", "segmenter", vars(net.config), {"batch_size": 64}, data=data_hash(data))
    card.metrics = on_held_out(lambda part: segmentation_scores(net, data.part(part), labels[rows[part]]))
    card.notes = f"Parts: {', '.join(PARTS)}, known exactly (course_lib.data.people.draw_parts)."
    return publish(job, card, net.state_dict(), history, "mIoU on val", higher=True)


class AutoencoderMethod(Method):
    """A variational autoencoder: absolute error with a learned scale. Three eighths of a batch are of ``others``."""

    moved = ("data", "others")
    # Weight of the divergence between posterior and N(0, I). 1 is the evidence lower bound; the published 1e-6 leaves
    # latents without shape. Between them pictures are sharp, and a flow can fill the latents.
    kl = 0.1
    noise = 0.1  # standard deviation of further noise on half of the latents: what a flow draws is never exact

    def __init__(self, data: ImageSet, config: GridAutoencoderConfig, others: ImageSet | None = None):
        super().__init__()
        self.data, self.others, self.config, self.length = data, others, config, len(data)
        net = GridAutoencoder(config)
        net.start_from_pca(_evenly([data] if others is None else [data, others], 2000, config.size))
        # log b: the scale of the Laplace distribution whose likelihood the absolute error is.
        net.register_parameter("log_scale", nn.Parameter(torch.zeros(())))
        self.modules = {"autoencoder": net.to(memory_format=torch.channels_last)}
        self.optimizers = {"autoencoder": torch.optim.Adam(net.parameters(), 1.5e-3, (0.9, 0.99), fused=True)}
        self.ema = {"autoencoder": 0.998}

    def batch(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """The whole batch moves by up to two pixels: otherwise all hair ends at the same cell's edge."""
        images = self.data.batch(index, self.config.size)
        if self.others is not None:
            more = torch.randint(len(self.others), (len(index) * 3 // 5,), generator=generator)
            images = torch.cat([images, self.others.batch(more, self.config.size)])
        return shifted(images, generator, 2)

    def losses(self, images: Tensor, generator: torch.Generator, step: int) -> Iterator[Loss]:
        shape = (len(images), self.config.latent_dim)
        noise = torch.randn(shape, generator=generator).to(images)
        further = self.noise * torch.randn(shape, generator=generator).to(images)
        further[::2] = 0
        rendered, posterior = self.modules["autoencoder"](images, noise, further)
        absolute = (rendered.float() - images).abs()
        log_scale = self.modules["autoencoder"].log_scale
        error = (absolute / log_scale.exp() + log_scale).sum() / len(images)
        kl = posterior.kl().mean()
        yield Loss("autoencoder", error + self.kl * kl, {"l1": absolute.mean(), "kl": kl})

    learning_rate = staticmethod(partial(_warm_cosine, warm=0.02, last=0.01))


class _Decoder(nn.Module):
    """The decoding half of an autoencoder as a module of its own; the other half is frozen."""

    def __init__(self, net: GridAutoencoder):
        super().__init__()
        self.net = net.requires_grad_(False)
        for part in (net.linear_out, net.from_latent, net.decoder, net.to_image):
            part.requires_grad_(True)

    def forward(self, latent: Tensor) -> Tensor:
        return self.net.render(latent)


class DecoderMethod(Method):
    """The decoder of a measured ``net`` alone, on noisy latents of the frozen encoder."""

    moved = ("sets", "latents")
    most, clean = 0.4, 0.15
    """Largest standard deviation of a picture's noise in :class:`LatentSpace`, and the share of pictures without."""

    def __init__(self, net: GridAutoencoder, data: ImageSet, others: ImageSet):
        super().__init__()
        self.sets, self.length, self.size, self.space = [data, others], len(data), net.config.size, LatentSpace(net)
        self.latents = [self.space.encode_set(one) for one in self.sets]
        self.modules = {"decoder": _Decoder(net)}
        trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
        self.optimizers = {"decoder": torch.optim.Adam(trained, 1e-3, (0.9, 0.99), fused=True)}
        self.ema = {"decoder": 0.995}

    def to_device(self, device: torch.device) -> None:
        super().to_device(device)
        self.space = LatentSpace(self.space.autoencoder.to(device))

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noisy latents ``(B, D)`` and the pictures: as they are, for a generator draws no moved ones either."""
        rows = [index, torch.randint(len(self.sets[1]), (len(index) * 3 // 5,), generator=generator)]
        images = torch.cat([one.batch(row, self.size) for one, row in zip(self.sets, rows, strict=True)])
        latents = torch.cat([one[row.to(self.device)] for one, row in zip(self.latents, rows, strict=True)]).float()
        strength = self.most * torch.rand(len(images), 1, 1, 1, generator=generator)
        strength = strength * (torch.rand(strength.shape, generator=generator) >= self.clean)
        noise = (strength * torch.randn(latents.shape, generator=generator)).to(self.device)
        return self.space.unscaled(latents + noise), images.contiguous(memory_format=torch.channels_last)

    def losses(self, batch: tuple, generator: torch.Generator, step: int) -> Iterator[Loss]:
        latents, images = batch
        yield Loss("decoder", (self.modules["decoder"](latents).float() - images).abs().mean())

    def learning_rate(self, progress: float) -> float:
        return min(1.0, progress / 0.02 + 0.02, 0.01 + (1 - progress) / 0.6)


def psnr(images: Tensor, others: Tensor) -> float:
    """Mean over images of the peak signal-to-noise ratio in dB; the peak is 2, as images lie in [−1, 1]."""
    mse = (images - others).square().mean((1, 2, 3)).clamp_min(1e-10)
    return (10 * (4.0 / mse).log10()).mean().item()


def measured(trained: GridAutoencoder, sets: Sequence[ImageSet]) -> GridAutoencoder:
    """A copy on the CPU without the loss's scale, whose channels are measured on some pictures of ``sets``."""
    net = GridAutoencoder(trained.config)
    net.load_state_dict({key: value for key, value in trained.state_dict().items() if key != "log_scale"})
    centre, scale = networks.measure_latents(net.eval(), _evenly(sets, 250, net.config.size))
    net.config = replace(net.config, centre=centre, scale=scale)
    return net


def train_autoencoder(job: Job) -> Card:
    """The grid autoencoder: people and other kinds at 64 pixels, 8×8 cells of 16 numbers; then its decoder alone."""
    people, kinds = _sets()
    method = AutoencoderMethod(people.part("train"), GridAutoencoderConfig(channels=16), kinds.part("train"))
    steps = job.profile.pick(quick=60, cpu=16000, gpu=80000)
    before = job.run("avatar-autoencoder", method, 20, steps, precision="bf16-mixed")
    recipe = {"batch_size": 32, "kl": method.kl, "noise": method.noise}
    parts = [data.part("train") for data in (people, kinds)]
    net = measured(before.averaged["autoencoder"], parts)
    # Three hundred pictures a kind are learned by heart in a few minutes: fresh ones as well.
    fresh = fresh_kinds(job.profile.pick(quick=1, cpu=400, gpu=2000), 4, tuple(KINDS))
    method = DecoderMethod(net, parts[0], concatenate([parts[1], fresh]))
    steps = job.profile.pick(quick=20, cpu=6000, gpu=20000)
    history = job.run("avatar-decoder", method, 30, steps, last=True, precision="bf16-mixed")
    net = history.averaged["decoder"].net.eval()
    history = replace(before, steps=before.steps + history.steps, seconds=before.seconds + history.seconds)
    recipe["largest noise of the decoder's part"] = method.most
    card = Card("avatar-autoencoder", "grid autoencoder", vars(net.config), recipe, data=data_hash(people))
    device = job.profile.device
    judge = Judge.load().to(device)

    @torch.no_grad()
    def score(part: str) -> dict[str, float]:
        metrics = {}
        for name, data in (("people", people.part(part)), ("other kinds", kinds.part(part))):
            images = torch.cat(list(data.batches(250, net.config.size)))
            outputs = torch.cat([net.decode(net.encode(some.to(device))).cpu() for some in images.split(250)])
            metrics[f"PSNR (dB) of {name}"] = psnr(images, outputs)
            metrics[f"Fréchet distance of {name}"] = frechet_distance(judge.features(images), judge.features(outputs))
            if name == "people":
                found = judge.still_read(images, outputs, data.labels)
                metrics |= {f"{label} still read": share for label, share in found.items()}
        return metrics

    card.metrics = on_held_out(score)
    card.notes = "'still read': share of the attributes that the judge reads in the original and in the reconstruction."
    return publish(job, card, net.state_dict(), history, "PSNR (dB) of people on val", higher=True)
