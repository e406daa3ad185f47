"""The generators that the course reuses: StyleGAN, BigGAN and ALAE in the latents of the autoencoder.

One method (:mod:`course_lib.gan_training`), one schedule, one way of scoring; a generator is a short recipe.
"""

from dataclasses import asdict, replace

import torch
from torch import Tensor

from ..data import NEW_KINDS, ImageSet, fresh_kinds, fresh_people, load_kinds, load_people
from ..data.avatars import SOURCE_STYLES
from ..data.people import ATTRIBUTES, STYLES
from ..evaluation import Judge
from ..evaluation.distances import frechet_distance
from ..experts import load_expert
from ..experts.autoencoder import LatentSpace
from ..gan_training import ALAEMethod, BigGANMethod, GANData, StyleGANMethod
from ..gans import BigGANConfig
from ..gans.alae import ALAE, ALAEConfig
from ..gans.biggan import standing_statistics
from ..gans.stylegan import StyleGANConfig
from ..gans.training import class_codes, gaussian_codes
from ..profiles import seed_everything
from ..training import Card
from .generator_scores import class_accuracy, score_samples, style_path_length, unseen_people
from .recipe import Job, data_hash, publish

__all__ = ["old_kinds", "people_data", "source_people", "train_alae", "train_biggan", "train_stylegan"]


def old_kinds(data: ImageSet) -> ImageSet:
    """The pictures whose kind is not kept for class transfer; ``labels["kind"]`` and its names without the new ones."""
    names = [name for name in data.classes["kind"] if name not in NEW_KINDS]
    index = torch.tensor([names.index(name) if name in names else -1 for name in data.classes["kind"]])
    labels = index[data.labels["kind"]]
    kept = data.subset(labels >= 0)
    return replace(kept, labels={"kind": labels[labels >= 0]}, classes={"kind": names})


def source_people(data: ImageSet) -> ImageSet:
    """The people of the styles that StyleGAN and ALAE learn; the other styles are targets near by."""
    chosen = torch.tensor([list(STYLES).index(name) for name in SOURCE_STYLES])
    return data.subset(torch.isin(data.labels["domain"], chosen))


def people_data(space: LatentSpace, dims: int, each: int = 0) -> tuple[ImageSet, GANData]:
    """The people of :func:`source_people` and what a GAN learns from their training part.

    Args:
        space: encodes them.
        dims: length of a code.
        each: fresh people of each combination of attributes, besides.
    """
    data = source_people(load_people())
    parts = [space.encode_set(data.part("train"))]
    if each:
        parts.append(space.encode_set(fresh_people(each, 2, SOURCE_STYLES)))
    latents = torch.cat(parts)
    codes = gaussian_codes(latents.flatten(1).float(), dims)
    return data, GANData(latents, codes, torch.zeros(len(latents), dtype=torch.int64))


def train_stylegan(job: Job) -> Card:
    """StyleGAN on people of three styles; its discriminator is published as ``avatar-stylegan-critic``."""
    seed_everything(job.seed)
    device = job.profile.device
    space = LatentSpace(load_expert("avatar-autoencoder", device))
    config = StyleGANConfig((96,) * 3, (96,) * 3, 64, 4, colours=space.shape[0], doublings=1)
    data, known = people_data(space, config.latent, job.profile.pick(quick=0, cpu=6, gpu=30))
    method = StyleGANMethod(known, config, space=space)
    job = replace(job, precision="bf16-mixed")
    steps, batch = job.profile.pick(quick=30, cpu=60000, gpu=150000), 32
    history = job.run("avatar-stylegan", method, batch, steps, preview_every=2000, last=True)
    network, judge = history.averaged["generator"].eval(), Judge.load().to(device)

    def draw(count: int, draws: torch.Generator) -> Tensor:
        z = torch.randn(count, config.latent, generator=draws).to(device)
        noise = network.synthesis.noise(count, draws)
        return space.decode(network(z, noise)).cpu()

    metrics = score_samples(draw, unseen_people(), data.part("train"), judge, job.seed)
    metrics["path length in z"] = style_path_length(network, space, judge, job.seed)
    recipe = {
        "batch_size": batch,
        "pictures": len(known.labels),
        "r1": method.r1 / method.r1_every,
        "mixing": method.mixing,
    }
    recipe |= {"noise": method.noise, "space": "avatar-autoencoder", "styles": list(SOURCE_STYLES)}
    recipe |= asdict(method.schedule)
    notes = (
        "Draws scaled latents, which LatentSpace decodes. Scores in the features of avatar-judge, against new people."
    )
    for name, kind, state in (
        ("avatar-stylegan-critic", "stylegan critic", method.modules["critic"].state_dict()),
        ("avatar-stylegan", "stylegan", network.state_dict()),
    ):
        card = Card(name, kind, config.to_dict(), recipe, data=data_hash(data), metrics=metrics, notes=notes)
        published = publish(job, card, state, history, "Fréchet distance", higher=False, bits=8)
    return published


def train_alae(job: Job) -> Card:
    """ALAE on the people that StyleGAN learns."""
    seed_everything(job.seed)
    device = job.profile.device
    space, judge = LatentSpace(load_expert("avatar-autoencoder", device)), Judge.load().to(device)
    config = ALAEConfig((128, 128), 64, 4, colours=space.shape[0], bounded=False)
    data, known = people_data(space, config.latent, job.profile.pick(quick=0, cpu=6, gpu=30))
    network = ALAE(config)
    method = ALAEMethod(known, network, space=space)
    job = replace(job, precision="bf16-mixed")
    steps, batch = job.profile.pick(quick=30, cpu=60000, gpu=150000), 32
    history = job.run("avatar-alae", method, batch, steps, preview_every=2000, last=True)
    network.generator.load_state_dict(history.averaged["generator"].state_dict())
    for name in ("encoder", "score"):
        getattr(network, name).load_state_dict(getattr(history.averaged["critic"], name).state_dict())
    network.generator.set_mean()
    network = network.eval().to(device)

    def draw(count: int, draws: torch.Generator) -> Tensor:
        z = torch.randn(count, config.latent, generator=draws).to(device)
        return space.decode(network.generator(z, network.generator.decoder.noise(count, draws))[0]).cpu()

    metrics = score_samples(draw, unseen_people(), data.part("train"), judge, job.seed)
    for name in ("val", "test"):
        part, scores = data.part(name), {}
        real = torch.cat(list(part.batches(250)))
        read = [network.decode(network.encode(space.encode(some.to(device)))) for some in real.split(250)]
        again = space.decode(torch.cat(read)).cpu()
        scores["Fréchet distance of reconstructions"] = frechet_distance(judge.features(real), judge.features(again))
        for label in ATTRIBUTES:
            right = judge.predict(real, label) == part.labels[label]
            kept = (judge.predict(again, label) == part.labels[label]) & right
            scores[f"{label} still read in reconstructions"] = (kept.sum() / right.sum()).item()
        metrics |= {f"{key} on {name}": value for key, value in scores.items()}
    recipe = {"batch_size": batch, "pictures": len(known.labels), "r1": method.r1 / method.r1_every}
    recipe |= {"mixing": method.mixing, "noise": method.noise, "space": "avatar-autoencoder"}
    recipe |= {"styles": list(SOURCE_STYLES), "redrawing": method.redrawing} | asdict(method.schedule)
    notes = "F, G, E and D, the moving average of all four, on scaled latents, which LatentSpace decodes."
    card = Card("avatar-alae", "alae", config.to_dict(), recipe, data=data_hash(data), metrics=metrics, notes=notes)
    return publish(job, card, network.state_dict(), history, "Fréchet distance", higher=False, bits=8)


def _kinds_data(job: Job, space: LatentSpace, dims: int) -> tuple[ImageSet, GANData]:
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


def train_biggan(job: Job) -> Card:
    """BigGAN on the old kinds; its discriminator is published as ``avatar-biggan-critic``."""
    seed_everything(job.seed)
    device = job.profile.device
    space = LatentSpace(load_expert("avatar-autoencoder", device))
    data = old_kinds(load_kinds())
    names, channels = data.classes["kind"], (96,) * 4
    config = BigGANConfig(
        len(names), channels, channels, 1, 64, 48, (), colours=space.shape[0], doublings=1, bounded=False
    )
    data, known = _kinds_data(job, space, config.noise)
    method = BigGANMethod(known, config, space=space)
    job = replace(job, precision="bf16-mixed")
    steps, batch = job.profile.pick(quick=30, cpu=20000, gpu=100000), 64
    history = job.run("avatar-biggan", method, batch, steps, preview_every=2000, last=True)
    network, judge = history.averaged["generator"].eval(), Judge.load().to(device)
    draws = torch.Generator().manual_seed(job.seed)

    def sample(labels: Tensor) -> Tensor:
        z = torch.randn(len(labels), config.noise, generator=draws).to(device)
        return network(z, network.embed(labels.to(device)))

    standing_statistics(network, lambda: sample(torch.randint(len(names), (256,), generator=draws)))
    metrics = {}
    for name in ("val", "test"):
        part = data.part(name)
        labels = part.labels["kind"]
        drawn: list[Tensor] = []

        def draw(count: int, _: torch.Generator, labels: Tensor = labels, drawn: list[Tensor] = drawn) -> Tensor:
            drawn.append(space.decode(torch.cat([sample(some) for some in labels.split(250)])).cpu())
            return drawn[0]

        with torch.no_grad():
            scores = score_samples(draw, part, data.part("train"), judge, job.seed)
        scores |= class_accuracy(drawn[0], part, judge)
        metrics |= {f"{key} on {name}": value for key, value in scores.items()}
    recipe = {"batch_size": batch, "pictures": len(known.labels), "classes": names, "space": "avatar-autoencoder"}
    recipe |= {"noise": method.noise} | asdict(method.schedule)
    notes = "Draws scaled latents, which LatentSpace decodes. Scores in the features of avatar-judge."
    for name, kind, state in (
        ("avatar-biggan-critic", "biggan critic", method.modules["critic"].state_dict()),
        ("avatar-biggan", "biggan generator", network.state_dict()),
    ):
        card = Card(name, kind, config.to_dict(), recipe, data=data_hash(data), metrics=metrics, notes=notes)
        published = publish(job, card, state, history, "Fréchet distance on val", higher=False, bits=8)
    return published
