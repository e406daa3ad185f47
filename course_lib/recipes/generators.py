"""The generators that the course reuses: StyleGAN, BigGAN and ALAE in the latents of the autoencoder; their scores."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.avatars import NEW_KINDS, SOURCE_STYLES, fresh_kinds, fresh_people, load_kinds, load_people
from ..data.image_set import ImageSet, regroup
from ..data.people import STYLES
from ..evaluation.scores import FRECHET, Judge, copy_share, feature_scores, frechet_distance, path_length
from ..experts.networks import LatentSpace, PixelSpace
from ..experts.protocol import SourceModel, load_expert
from ..gan_training import (
    CODES_KIND,
    CodeSpace,
    GANData,
    GANMethod,
    GANSchedule,
    HingeMethod,
    LogisticMethod,
    class_codes,
    gaussian_codes,
    latent_reciprocity,
)
from ..gans.alae import ALAE, ALAEConfig
from ..gans.biggan import BigGANConfig, Discriminator, Generator, standing_statistics, start_weights
from ..gans.stylegan import StyleGAN, StyleGANConfig, StyleGANCritic, equalised_groups
from ..training.runs import Card, History, Loss
from .recipe import Job, data_hash, on_held_out, publish

# A long start: in it E and G become an autoencoder, which the adversarial steps then only have to keep.
_ALAE_SCHEDULE = GANSchedule(decode=7000, decode_rate=1e-2, reconstruction=0.5)
_BIGGAN_SCHEDULE = GANSchedule(decode_rate=2e-3, averaging=0.999)

_PIXELS = (256, 256, 128, 64, 32)
"""Channels from 4×4 to 64×64 where a generator draws pixels: sizes for a GPU."""

# --- methods ----------------------------------------------------------------------------------------------------------


class StyleGANMethod(LogisticMethod):
    """StyleGAN with its own discriminator; ``options`` are those of :class:`LogisticMethod`, from the schedule on."""

    def __init__(self, data: GANData, config: StyleGANConfig, *options: Any, **named: Any):
        named["slots"] = len(config.channels)
        super().__init__(data, StyleGAN(config), StyleGANCritic(config), *options, **named)

    def groups(self, name: str, rate: float) -> list[dict[str, Any]]:
        if name == "critic":
            return super().groups(name, rate)
        network = self.modules["generator"]
        # The mapping network moves a tenth as fast: its layers stand before everything else.
        slow = {"params": list(network.mapping.parameters()), "lr": 0.1 * rate}
        return [{"params": list(network.synthesis.parameters())}, slow]

    def generate(self, network: nn.Module, z: Tensor, labels: Tensor, generator: torch.Generator, fresh: int) -> Tensor:
        noise = self.unwrapped("generator").synthesis.noise(len(z), generator)
        return network(self.mixed(z, fresh, generator), noise)


class BigGANMethod(HingeMethod):
    """BigGAN; ``options`` are those of :class:`GANMethod`, behind the schedule. Ours: a little R1, without which the
    discriminator soon tells every drawn latent and the generator learns little more."""

    r1 = 3.0

    def __init__(self, data: GANData, config: BigGANConfig, schedule: GANSchedule = _BIGGAN_SCHEDULE, *options: Any):
        networks = Generator(config), Discriminator(config)
        for network in networks:
            start_weights(network)
        super().__init__(data, *networks, schedule, *options)


class ALAECritic(nn.Module):
    """E and D of ALAE: ``(B, C, G, G)`` → scores ``(B,)``, or the styles that E reads."""

    def __init__(self, network: ALAE):
        super().__init__()
        self.encoder, self.score = network.encoder, network.score

    def forward(self, x: Tensor, read: bool = False) -> Tensor:
        w = self.encoder(x)
        return w if read else self.score(w)


class ALAEMethod(LogisticMethod):
    """ALAE's three steps, which move E and D, G and F, and for reciprocity E, G and F. Ours: E and G first learn to
    give real latents back, while F learns codes as the other generators do; a quarter of each later batch keeps that
    error, so that a person stays who it is. Its weight rises as the learning rate falls: E first has to tell drawn
    latents from real ones, which a heavy weight forbids."""

    redrawing = 10.0  # weight of the error of G(E(x)) beside reciprocity, ten times as much at the end
    keeping = redrawing  # that weight at the present rate
    small_styles = 1e-3  # weight of the mean square of E's styles

    def __init__(
        self, data: GANData, network: ALAE, schedule: GANSchedule = _ALAE_SCHEDULE, *options: Any, **named: Any
    ):
        # Only the last size is drawn: the entrances and exits of the others get no gradient, which DDP would miss.
        network.generator.decoder.to_rgb[:-1].requires_grad_(False)
        network.encoder.from_rgb[1:].requires_grad_(False)
        named["slots"] = network.config.slots
        super().__init__(data, network.generator, ALAECritic(network), schedule, *options, **named)
        self.ema = dict.fromkeys(self.modules, schedule.averaging)

    def groups(self, name: str, rate: float) -> list[dict[str, Any]]:
        trained = equalised_groups(self.modules["critic" if name == "critic" else "generator"], rate)
        return [group for group in trained if any(parameter.requires_grad for parameter in group["params"])]

    def generate(self, network: nn.Module, z: Tensor, labels: Tensor, generator: torch.Generator, fresh: int) -> Tensor:
        noise = self.unwrapped("generator").decoder.noise(len(z), generator)
        return network(self.mixed(z, fresh, generator), noise)[0]

    def learning_rate(self, progress: float) -> float:
        share = super().learning_rate(progress)
        self.keeping = self.redrawing / max(share, 0.1)
        return share

    def _redraw(self, real: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Squared error of G(E(x)), and mean square of the styles, which nothing else holds near zero."""
        w = self.modules["critic"](real, read=True)
        noise = self.unwrapped("generator").decoder.noise(len(w), generator)
        again, _ = self.modules["generator"](w, noise, styled=True)
        return F.mse_loss(again.float(), real), w.float().square().mean()

    def decoding_loss(self, batch: tuple, generator: torch.Generator) -> Loss:
        """G(E(x)), and on a quarter of the batch G(F(code))."""
        real, codes, labels = batch
        error, size = self._redraw(real, generator)
        known = len(real) // 4
        found = self.generate(self.modules["generator"], codes[:known], labels, generator, 0)
        decoded = F.mse_loss(found.float(), real[:known])
        scalars = {"decoding error": decoded.detach(), "redrawing error": error.detach()}
        return Loss("decoder", error + decoded + self.small_styles * size, scalars, also=("critic",))

    def losses(self, batch: tuple, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """At the end reciprocity: one style a latent, half a batch; beside it the error of G(E(x)) on a quarter."""
        yield from super().losses(batch, generator, step)
        if step < self.schedule.decode:
            return
        real, codes, _ = batch
        count = len(real) // 2
        z = torch.randn((count, codes.shape[1]), generator=generator).to(codes)
        noise = self.unwrapped("generator").decoder.noise(count, generator)
        fake, w = self.modules["generator"](z, noise)
        value = latent_reciprocity(self.modules["critic"](fake.float(), read=True), w)
        error, size = self._redraw(real[: count // 2], generator)
        scalars = {"reciprocity": value.detach(), "redrawing error": error.detach()}
        total = value + self.keeping * error + self.small_styles * size
        yield Loss("critic", total, scalars, also=("generator",))


# --- what they learn --------------------------------------------------------------------------------------------------


def old_kinds(data: ImageSet) -> ImageSet:
    """The pictures whose kind is not kept for class transfer, with a label ``class``."""
    return regroup(data, {name: (name,) for name in data.classes["kind"] if name not in NEW_KINDS}, "kind")


def _encoded(space: LatentSpace, sets: Iterable[ImageSet]) -> tuple[Tensor, Tensor]:
    """What is drawn, ``(N, *space.shape)``, and latents ``(N, D)`` of the same pictures, of which codes are made."""
    drawn = torch.cat([space.encode_set(one) for one in sets])
    if not isinstance(space, PixelSpace):
        return drawn, drawn.flatten(1).float()
    latents = LatentSpace(load_expert("avatar-autoencoder", space.device))
    return drawn, torch.cat([latents.encode_set(one) for one in sets]).flatten(1).float()


def _kinds_data(job: Job, space: LatentSpace, dims: int) -> GANData:
    """What a GAN with codes of length ``dims`` learns: the training part of the :func:`old_kinds`, and fresh ones."""
    sets = [old_kinds(load_kinds()).part("train")]
    labels = [sets[0].labels["class"]]
    if each := job.profile.pick(quick=0, cpu=2, gpu=10):
        # Of people 792 a round; of the other kinds as many.
        sets += [fresh_people(each, seed=3), old_kinds(fresh_kinds(each * 792, seed=3))]
        labels += [sets[1].labels["domain"], sets[2].labels["class"]]
    drawn, latents = _encoded(space, sets)
    labels = torch.cat(labels)
    return GANData(drawn, class_codes(latents, labels, dims), labels)


def people_data(space: LatentSpace, dims: int, each: int = 0) -> tuple[ImageSet, GANData]:
    """People of three styles, and what a GAN with codes of length ``dims`` learns from their training part and ``each``
    fresh people of each combination of attributes."""
    chosen, data = torch.tensor([list(STYLES).index(name) for name in SOURCE_STYLES]), load_people()
    data = data.subset(torch.isin(data.labels["domain"], chosen))
    sets = [data.part("train")] + ([fresh_people(each, 2, SOURCE_STYLES)] if each else [])
    drawn, latents = _encoded(space, sets)
    return data, GANData(drawn, gaussian_codes(latents, dims), torch.zeros(len(drawn), dtype=torch.int64))


def train_codes(job: Job) -> Card:
    """The space of the codes that ``avatar-biggan`` learned to decode, so that new pictures can be read in it."""
    source = SourceModel.load("avatar-biggan", job.profile.device)
    dims = source.generator.config.noise
    known = _kinds_data(job, source.space, dims)
    space = CodeSpace.fit(known.latents.flatten(1).float(), known.labels, dims)
    card = Card("avatar-biggan-codes", CODES_KIND, {"noise": dims}, data=data_hash(load_kinds()))
    card.recipe = {"pictures": len(known.labels), "space": "avatar-autoencoder"}
    card.metrics = {"standard deviation of the codes of training pictures": known.codes.std().item()}
    card.notes = "Main directions of the scaled latents of avatar-autoencoder around the means of the old classes."
    tensors = {"directions": space.directions.float(), "common": space.common.float()}
    return publish(job, card, tensors, History(), next(iter(card.metrics)), higher=True, bits=16)


# --- scores -----------------------------------------------------------------------------------------------------------


def unseen_people(count: int = 0) -> ImageSet:
    """New people of the combinations and styles that StyleGAN and ALAE are trained on, for scores; the test part would
    ask for combinations that were never shown. All 792 in three styles, or ``count`` of them."""
    return fresh_people(1, 9, SOURCE_STYLES, count)


@torch.no_grad()
def score_samples(
    draw: Callable[[int, torch.Generator], Tensor], real: ImageSet, train: ImageSet, judge: Judge, seed: int = 0
) -> dict[str, float]:
    """Scores of as many samples as there are real pictures, in the judge's features.

    Args:
        draw: count and CPU generator → pictures ``(count, 3, S, S)`` in [−1, 1].
        real, train: pictures that were not trained on; training pictures, to look for copies.

    Returns:
        See :func:`feature_scores`; ``Fréchet ratio``: to the distance between two halves of the real pictures;
        ``copies``: share of samples nearer to a training picture than half of the real ones are, 0.5 for the data.
    """
    draws = torch.Generator().manual_seed(seed)
    fake = judge.features(draw(len(real), draws))
    wanted, known = (judge.features(torch.cat(list(data.batches(250)))) for data in (real, train))
    # Not from ``draws``, which each generator advances differently: all are divided by the same distance.
    order = torch.randperm(len(wanted), generator=torch.Generator().manual_seed(seed))
    halves = frechet_distance(wanted[order[::2]], wanted[order[1::2]])
    scores = feature_scores(wanted, fake)
    return scores | {"Fréchet ratio": scores[FRECHET] / halves, "copies": copy_share(fake, known, wanted)}


def class_accuracy(pictures: Tensor, part: ImageSet, judge: Judge) -> dict[str, float]:
    """How often the judge sees the kind asked for in ``pictures``, one for each of ``part``, of :func:`old_kinds`, over
    all and in the worst kind, and how often on real pictures."""
    names, labels = part.classes["class"], part.labels["class"]
    every = torch.tensor([part.classes["kind"].index(name) for name in names])[labels]
    real = judge.predict(torch.cat(list(part.batches(250))), "kind") == every
    right = (judge.predict(pictures, "kind") == every).float()
    return {
        "class accuracy": right.mean().item(),
        "class accuracy of the worst class": min(right[labels == k].mean().item() for k in range(len(names))),
        "class accuracy of real pictures": real.float().mean().item(),
    }


# --- training ---------------------------------------------------------------------------------------------------------


def _start(job: Job, name: str, kind: str, latents: Any, pixels: Any) -> tuple[LatentSpace, Any, Card]:
    """The space that a generator draws in, its sizes there, and its card; what draws pixels has a name of its own."""
    if job.space == "pixels":
        card = Card(f"{name}-pixels", kind, vars(pixels), notes="Draws pictures.")
        return PixelSpace(64, job.profile.device), pixels, card
    card = Card(name, kind, vars(latents), notes="Draws scaled latents, which LatentSpace decodes.")
    return LatentSpace(load_expert("avatar-autoencoder", job.profile.device)), latents, card


def _fit(
    job: Job, card: Card, method: GANMethod, batch_size: int, cpu: int, gpu: int, data: ImageSet, **more: Any
) -> History:
    """Trains, and notes on the card how."""
    steps = job.profile.pick(quick=30, cpu=cpu, gpu=gpu)
    options = {"preview_every": 2000, "precision": "bf16-mixed"}
    history = job.run(card.name, method, batch_size, steps, last=True, **options)
    card.recipe = {"batch_size": batch_size, "pictures": method.length, "noise": method.noise}
    drawn_in = {"space": "avatar-autoencoder"} if job.space == "latents" else {}
    card.recipe |= drawn_in | more | asdict(method.schedule)
    card.recipe["r1"] = method.r1
    if isinstance(method, LogisticMethod):
        card.recipe |= {"mixing": method.mixing, "styles": list(SOURCE_STYLES)}
    card.data = data_hash(data)
    return history


def _publish_both(job: Job, card: Card, method: GANMethod, history: History, primary: str) -> Card:
    """The discriminator, as ``NAME-critic`` under the same scores, and the generator."""
    kind, critic = card.kind.removesuffix(" generator") + " critic", method.modules["critic"]
    publish(job, replace(card, name=f"{card.name}-critic", kind=kind), critic.state_dict(), history, primary)
    return publish(job, card, history.averaged["generator"].state_dict(), history, primary)


def train_stylegan(job: Job) -> Card:
    """StyleGAN on people of three styles; its discriminator is published as ``avatar-stylegan-critic``."""
    sizes = StyleGANConfig((96,) * 3, (96,) * 3, 64, 4, colours=16, doublings=1)
    pixels = StyleGANConfig(_PIXELS, _PIXELS, 128)
    space, config, card = _start(job, "avatar-stylegan", "stylegan", sizes, pixels)
    data, known = people_data(space, config.latent, job.profile.pick(quick=0, cpu=6, gpu=30))
    method = StyleGANMethod(known, config, GANSchedule(), space)
    history = _fit(job, card, method, 32, 60000, 150000, data)
    network, judge = history.averaged["generator"].eval(), Judge.load().to(job.profile.device)

    def draw(count: int, draws: torch.Generator) -> Tensor:
        z = torch.randn(count, config.latent, generator=draws).to(job.profile.device)
        noise = network.synthesis.noise(count, draws)
        return space.decode(network(z, noise)).cpu()

    def draw_between(z: Tensor, pairs: Tensor) -> Tensor:
        return space.decode(network(z, [one.expand(len(z), -1, -1, -1) for one in noise]))

    card.metrics = score_samples(draw, unseen_people(), data.part("train"), judge, job.seed)
    # Perceptual path length along straight ways in z, in the judge's features, with one noise for all.
    draws = torch.Generator().manual_seed(job.seed)
    ends, noise = torch.randn(2, 500, config.latent, generator=draws), network.synthesis.noise(1, draws)
    with torch.no_grad():
        length = path_length(draw_between, *ends.to(job.profile.device), judge.features, epsilon=1e-2)
    card.metrics["path length in z"] = length
    card.notes += " Scores in the features of avatar-judge, against new people."
    return _publish_both(job, card, method, history, FRECHET)


def train_alae(job: Job) -> Card:
    """ALAE on the people that StyleGAN learns."""
    device, judge = job.profile.device, Judge.load().to(job.profile.device)
    sizes = ALAEConfig((128, 128), 64, 4, colours=16, bounded=False)
    space, config, card = _start(job, "avatar-alae", "alae", sizes, ALAEConfig(_PIXELS, 128))
    data, known = people_data(space, config.latent, job.profile.pick(quick=0, cpu=6, gpu=30))
    network = ALAE(config)
    method = ALAEMethod(known, network, _ALAE_SCHEDULE, space, 0.05, r1=1.0)
    history = _fit(job, card, method, 32, 60000, 150000, data, redrawing=method.redrawing)
    network.generator.load_state_dict(history.averaged["generator"].state_dict())
    for name in ("encoder", "score"):
        getattr(network, name).load_state_dict(getattr(history.averaged["critic"], name).state_dict())
    network.generator.set_mean()
    network = network.eval().to(device)

    def draw(count: int, draws: torch.Generator) -> Tensor:
        z = torch.randn(count, config.latent, generator=draws).to(device)
        return space.decode(network.generator(z, network.generator.decoder.noise(count, draws))[0]).cpu()

    def reconstructions(name: str) -> dict[str, float]:
        part = data.part(name)
        real = torch.cat(list(part.batches(250)))
        read = [network.decode(network.encode(space.encode(some.to(device)))) for some in real.split(250)]
        again = space.decode(torch.cat(read)).cpu()
        found = {f"{FRECHET} of reconstructions": frechet_distance(judge.features(real), judge.features(again))}
        for label, share in judge.still_read(real, again, part.labels).items():
            found[f"{label} still read in reconstructions"] = share
        return found

    card.metrics = score_samples(draw, unseen_people(), data.part("train"), judge, job.seed)
    card.metrics |= on_held_out(reconstructions)
    card.notes += " F, G, E and D: the moving average of all four."
    return publish(job, card, network.state_dict(), history, FRECHET)


def train_biggan(job: Job) -> Card:
    """BigGAN on the old kinds; its discriminator is published as ``avatar-biggan-critic``."""
    data, device = old_kinds(load_kinds()), job.profile.device
    names, channels = data.classes["class"], (96,) * 4
    sizes = BigGANConfig(len(names), channels, channels, 1, 64, 48, (), colours=16, doublings=1, bounded=False)
    pixels = BigGANConfig(len(names), _PIXELS, _PIXELS[::-1], 4, 80)
    space, config, card = _start(job, "avatar-biggan", "biggan generator", sizes, pixels)
    method = BigGANMethod(_kinds_data(job, space, config.noise), config, _BIGGAN_SCHEDULE, space, 0.05)
    history = _fit(job, card, method, 64, 20000, 100000, data, classes=names)
    network, judge = history.averaged["generator"].eval(), Judge.load().to(device)
    draws = torch.Generator().manual_seed(job.seed)

    def sample(labels: Tensor) -> Tensor:
        z = torch.randn(len(labels), config.noise, generator=draws).to(device)
        return network(z, network.embed(labels.to(device)))

    @torch.no_grad()
    def score(name: str) -> dict[str, float]:
        part = data.part(name)
        pictures = space.decode(torch.cat([sample(some) for some in part.labels["class"].split(250)])).cpu()
        found = score_samples(lambda count, _: pictures, part, data.part("train"), judge, job.seed)
        return found | class_accuracy(pictures, part, judge)

    standing_statistics(network, lambda: sample(torch.randint(len(names), (256,), generator=draws)))
    card.metrics = on_held_out(score)
    card.notes += " Scores in the features of avatar-judge."
    return _publish_both(job, card, method, history, f"{FRECHET} on val")
