"""The generators that the course reuses: StyleGAN, BigGAN and ALAE in the latents of the autoencoder; their scores.

One method (:mod:`course_lib.gan_training`), one schedule, one way of scoring; a generator is a short recipe.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data.avatars import NEW_KINDS, SOURCE_STYLES, fresh_kinds, fresh_people, load_kinds, load_people
from ..data.image_set import ImageSet
from ..data.people import STYLES
from ..evaluation.class_scores import feature_scores
from ..evaluation.distances import copy_share, frechet_distance, path_length
from ..evaluation.features import Judge
from ..experts.autoencoder import LatentSpace
from ..experts.protocol import load_expert
from ..gan_training import ALAEMethod, BigGANMethod, GANData, GANMethod, StyleGANMethod, class_codes, gaussian_codes
from ..gans.alae import ALAE, ALAEConfig
from ..gans.biggan import BigGANConfig, standing_statistics
from ..gans.stylegan import StyleGAN, StyleGANConfig
from ..profiles import seed_everything
from ..training.files import Card
from ..training.method import History
from .experts import still_read
from .recipe import Job, data_hash, on_held_out, publish

__all__ = ["class_accuracy", "kinds_data", "old_kinds", "people_data", "score_samples", "style_path_length"]
__all__ += ["train_alae", "train_biggan", "train_stylegan", "unseen_people"]

# --- what they learn --------------------------------------------------------------------------------------------------


def old_kinds(data: ImageSet) -> ImageSet:
    """The pictures whose kind is not kept for class transfer; ``labels["kind"]`` and its names without the new ones."""
    names = [name for name in data.classes["kind"] if name not in NEW_KINDS]
    index = torch.tensor([names.index(name) if name in names else -1 for name in data.classes["kind"]])
    labels = index[data.labels["kind"]]
    kept = data.subset(labels >= 0)
    return replace(kept, labels={"kind": labels[labels >= 0]}, classes={"kind": names})


def kinds_data(job: Job, space: LatentSpace, dims: int) -> tuple[ImageSet, GANData]:
    """The :func:`old_kinds`, and what a GAN with codes of length ``dims`` learns from their training part and more."""
    data = old_kinds(load_kinds())
    sets = [data.part("train")]
    each = job.profile.pick(quick=0, cpu=2, gpu=10)
    if each:
        # Of people 792 a round; of the other kinds as many.
        people = fresh_people(each, seed=3)
        sets.append(replace(people, labels={"kind": people.labels["domain"]}))
        sets.append(old_kinds(fresh_kinds(each * 792, seed=3)))
    latents = torch.cat([space.encode_set(one) for one in sets])
    labels = torch.cat([one.labels["kind"] for one in sets])
    return data, GANData(latents, class_codes(latents.flatten(1).float(), labels, dims), labels)


def people_data(space: LatentSpace, dims: int, each: int = 0) -> tuple[ImageSet, GANData]:
    """The people of three styles, the other three being targets near by, and what a GAN with codes of length
    ``dims`` learns from their training part and ``each`` fresh people of each combination of attributes besides."""
    chosen, data = torch.tensor([list(STYLES).index(name) for name in SOURCE_STYLES]), load_people()
    data = data.subset(torch.isin(data.labels["domain"], chosen))
    parts = [space.encode_set(data.part("train"))]
    if each:
        parts.append(space.encode_set(fresh_people(each, 2, SOURCE_STYLES)))
    latents = torch.cat(parts)
    codes = gaussian_codes(latents.flatten(1).float(), dims)
    return data, GANData(latents, codes, torch.zeros(len(latents), dtype=torch.int64))


# --- scores -----------------------------------------------------------------------------------------------------------


def unseen_people() -> ImageSet:
    """New people of the combinations and styles that StyleGAN and ALAE are trained on: what their samples are held
    against. The test part would ask for combinations that were never shown; against it even real training pictures have
    a precision of 0.49."""
    return fresh_people(1, 9, SOURCE_STYLES)


@torch.no_grad()
def score_samples(
    draw: Callable[[int, torch.Generator], Tensor], real: ImageSet, train: ImageSet, judge: Judge, seed: int = 0
) -> dict[str, float]:
    """Scores of as many samples as there are real pictures, in the judge's features.

    Args:
        draw: count and CPU generator → pictures ``(count, 3, S, S)`` in [−1, 1].
        real: pictures that were not trained on.
        train: training pictures, to look for copies.

    Returns:
        See :func:`feature_scores`; ``Fréchet ratio``: to the distance between two halves of the real pictures;
        ``copies``: share of samples nearer to a training picture than half of the real ones are, 0.5 for the data.
    """
    draws = torch.Generator().manual_seed(seed)
    fake = judge.features(draw(len(real), draws))
    wanted = judge.features(torch.cat(list(real.batches(250))))
    order = torch.randperm(len(wanted), generator=draws)
    halves = frechet_distance(wanted[order[::2]], wanted[order[1::2]])
    known = judge.features(torch.cat(list(train.batches(250))))
    scores = feature_scores(wanted, fake)
    ratio = scores["Fréchet distance"] / halves
    return scores | {"Fréchet ratio": ratio, "copies": copy_share(fake, known, wanted)}


def class_accuracy(pictures: Tensor, part: ImageSet, judge: Judge) -> dict[str, float]:
    """How often the judge sees the kind asked for, over all and in the worst kind, and how often on real pictures.

    ``pictures`` are one for each of ``part``, which comes from :func:`old_kinds`, of its kind.
    """
    names, labels = part.classes["kind"], part.labels["kind"]
    every = torch.tensor([load_kinds().classes["kind"].index(name) for name in names])[labels]
    real = judge.predict(torch.cat(list(part.batches(250))), "kind") == every
    right = (judge.predict(pictures, "kind") == every).float()
    return {
        "class accuracy": right.mean().item(),
        "class accuracy of the worst class": min(right[labels == k].mean().item() for k in range(len(names))),
        "class accuracy of real pictures": real.float().mean().item(),
    }


@torch.no_grad()
def style_path_length(network: StyleGAN, space: LatentSpace, judge: Judge, seed: int, count: int = 500) -> float:
    """Perceptual path length along straight ways in z, in the judge's features, with one noise for all."""
    draws, device = torch.Generator().manual_seed(seed), space.centre.device
    ends = torch.randn(2, count, network.config.latent, generator=draws).to(device)
    noise = network.synthesis.noise(1, draws)

    def draw(z: Tensor, pairs: Tensor) -> Tensor:
        return space.decode(network(z, [one.expand(len(z), -1, -1, -1) for one in noise]))

    return path_length(draw, *ends, judge.features, epsilon=1e-2)


# --- training ---------------------------------------------------------------------------------------------------------


def _seeded_space(job: Job) -> LatentSpace:
    seed_everything(job.seed)
    return LatentSpace(load_expert("avatar-autoencoder", job.profile.device))


def _fit(job: Job, name: str, method: GANMethod, batch_size: int, cpu: int, gpu: int) -> History:
    steps, options = job.profile.pick(quick=30, cpu=cpu, gpu=gpu), {"preview_every": 2000, "precision": "bf16-mixed"}
    return job.run(name, method, batch_size, steps, last=True, **options)


def _recipe(method: GANMethod, batch_size: int, **more: Any) -> dict[str, Any]:
    """For the card of a generator that draws latents."""
    found = {"batch_size": batch_size, "pictures": method.length, "noise": method.noise, "space": "avatar-autoencoder"}
    return found | more | asdict(method.schedule)


def _publish_both(
    job: Job, card: Card, kind: str, method: GANMethod, network: nn.Module, history: History, primary: str
) -> Card:
    """The discriminator, as ``NAME-critic`` under the same scores, and the generator."""
    critic = replace(card, name=f"{card.name}-critic", kind=kind)
    publish(job, critic, method.modules["critic"].state_dict(), history, primary, higher=False, bits=8)
    return publish(job, card, network.state_dict(), history, primary, higher=False, bits=8)


def train_stylegan(job: Job) -> Card:
    """StyleGAN on people of three styles; its discriminator is published as ``avatar-stylegan-critic``."""
    space = _seeded_space(job)
    config = StyleGANConfig((96,) * 3, (96,) * 3, 64, 4, colours=space.shape[0], doublings=1)
    data, known = people_data(space, config.latent, job.profile.pick(quick=0, cpu=6, gpu=30))
    method = StyleGANMethod(known, config, space=space)
    history = _fit(job, "avatar-stylegan", method, 32, cpu=60000, gpu=150000)
    network, judge = history.averaged["generator"].eval(), Judge.load().to(job.profile.device)

    def draw(count: int, draws: torch.Generator) -> Tensor:
        z = torch.randn(count, config.latent, generator=draws).to(job.profile.device)
        noise = network.synthesis.noise(count, draws)
        return space.decode(network(z, noise)).cpu()

    card = Card("avatar-stylegan", "stylegan", config.to_dict(), data=data_hash(data))
    card.metrics = score_samples(draw, unseen_people(), data.part("train"), judge, job.seed)
    card.metrics["path length in z"] = style_path_length(network, space, judge, job.seed)
    more = {"r1": method.r1 / method.r1_every, "mixing": method.mixing, "styles": list(SOURCE_STYLES)}
    card.recipe = _recipe(method, 32, **more)
    card.notes = (
        "Draws scaled latents, which LatentSpace decodes. Scores in the features of avatar-judge, against new people."
    )
    return _publish_both(job, card, "stylegan critic", method, network, history, "Fréchet distance")


def train_alae(job: Job) -> Card:
    """ALAE on the people that StyleGAN learns."""
    space, device = _seeded_space(job), job.profile.device
    judge = Judge.load().to(device)
    config = ALAEConfig((128, 128), 64, 4, colours=space.shape[0], bounded=False)
    data, known = people_data(space, config.latent, job.profile.pick(quick=0, cpu=6, gpu=30))
    network = ALAE(config)
    method = ALAEMethod(known, network, space=space)
    history = _fit(job, "avatar-alae", method, 32, cpu=60000, gpu=150000)
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
        kept = still_read(real, again, part.labels, judge)
        return {
            "Fréchet distance of reconstructions": frechet_distance(judge.features(real), judge.features(again))
        } | {f"{label} still read in reconstructions": share for label, share in kept.items()}

    card = Card("avatar-alae", "alae", config.to_dict(), data=data_hash(data))
    card.metrics = score_samples(draw, unseen_people(), data.part("train"), judge, job.seed)
    card.metrics |= on_held_out(reconstructions)
    more = {"r1": method.r1 / method.r1_every, "mixing": method.mixing, "styles": list(SOURCE_STYLES)}
    card.recipe = _recipe(method, 32, **more, redrawing=method.redrawing)
    card.notes = "F, G, E and D, the moving average of all four, on scaled latents, which LatentSpace decodes."
    return publish(job, card, network.state_dict(), history, "Fréchet distance", higher=False, bits=8)


def train_biggan(job: Job) -> Card:
    """BigGAN on the old kinds; its discriminator is published as ``avatar-biggan-critic``."""
    space = _seeded_space(job)
    names, channels = old_kinds(load_kinds()).classes["kind"], (96,) * 4
    config = BigGANConfig(
        len(names), channels, channels, 1, 64, 48, (), colours=space.shape[0], doublings=1, bounded=False
    )
    data, known = kinds_data(job, space, config.noise)
    method = BigGANMethod(known, config, space=space)
    history = _fit(job, "avatar-biggan", method, 64, cpu=20000, gpu=100000)
    network, judge = history.averaged["generator"].eval(), Judge.load().to(job.profile.device)
    draws = torch.Generator().manual_seed(job.seed)

    def sample(labels: Tensor) -> Tensor:
        z = torch.randn(len(labels), config.noise, generator=draws).to(job.profile.device)
        return network(z, network.embed(labels.to(job.profile.device)))

    @torch.no_grad()
    def score(name: str) -> dict[str, float]:
        part = data.part(name)
        pictures = space.decode(torch.cat([sample(some) for some in part.labels["kind"].split(250)])).cpu()
        found = score_samples(lambda count, _: pictures, part, data.part("train"), judge, job.seed)
        return found | class_accuracy(pictures, part, judge)

    standing_statistics(network, lambda: sample(torch.randint(len(names), (256,), generator=draws)))
    card = Card("avatar-biggan", "biggan generator", config.to_dict(), _recipe(method, 64, classes=names))
    card.data, card.metrics = data_hash(data), on_held_out(score)
    card.notes = "Draws scaled latents, which LatentSpace decodes. Scores in the features of avatar-judge."
    return _publish_both(job, card, "biggan critic", method, network, history, "Fréchet distance on val")
