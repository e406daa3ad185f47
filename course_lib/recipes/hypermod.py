"""Hyper-modulation from StyleGAN's people to six new kinds, three faces and three things, beside other ways."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import hypermod as hyper
from ..data.avatars import kind_classes
from ..errors import CourseError
from ..evaluation.scores import ACCURACY, FRECHET, INTRA_CLASS_MEAN, KERNEL, ClassScores, Judge
from ..experts.protocol import SourceModel
from ..gan_training import GANData, GANSchedule
from ..gans.stylegan import StyleGAN, StyleGANConfig
from ..hypermod import ConditionalDiscriminator, HyperGenerator, HyperModulationMethod, transfer_data
from ..training.runs import Card
from .recipe import Contender, Job, Look, compare, data_hash, kept, on_held_out, publish, publish_comparison

SOURCE, OURS = "avatar-stylegan", "class styles and copies"
KINDS_LEARNED = ("open-peeps", "critters", "moods", "sprouts", "planets", "landscape")
SCHEDULE = GANSchedule(decode=250, lead=50, decode_rate=1e-2, averaging=0.99)
"""For some hundred steps. The published code trains both networks at 0.002 for 200,000 steps, without decoding."""
SHIPPED = replace(SCHEDULE, decode=2000, lead=200, reconstruction=1.0, averaging=0.998)
STOPS, BATCH, WIDTH = (100, 250, 400), 32, 16
SHOWN = (OURS, "both, random start", "all weights", "hyper-modulation", "random start", "from scratch")
"""Whose samples the comparison keeps."""


class ConditionalStyleGAN(StyleGAN):
    """The usual way, as a baseline: the class enters through the mapping network, and all weights may train. A row of a
    table is added to the first layer's output, as if the class stood one-hot beside z; another moves the style."""

    def __init__(self, config: StyleGANConfig, classes: int):
        super().__init__(config)
        self.inputs, self.offsets = (nn.Embedding(classes, config.latent) for _ in range(2))
        nn.init.zeros_(self.offsets.weight)
        # Progressive growing is not used: to-RGB of smaller sizes would wait for a gradient.
        self.synthesis.to_rgb[:-1].requires_grad_(False)

    @classmethod
    def from_source(cls, source: StyleGAN, classes: int) -> "ConditionalStyleGAN":
        """A copy of ``source`` that ignores the class until it is trained: fine-tuning of all weights."""
        network = cls(source.config, classes)
        network.load_state_dict(source.state_dict(), strict=False)
        nn.init.zeros_(network.inputs.weight)
        return network

    def groups(self, rate: float, class_rate: float) -> list[dict[str, Any]]:
        """What trains; ``class_rate`` is the factor of the mapping network's learning rate."""
        tables = [self.inputs.weight, self.offsets.weight]
        fast = [p for p in self.synthesis.parameters() if p.requires_grad] + tables
        return [{"params": fast}, {"params": list(self.mapping.parameters()), "lr": class_rate * rate}]

    def forward(self, z: Tensor, labels: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Latents or pictures of classes ``labels (B,)``; z and noise as :class:`StyleGAN` takes them."""
        noise = self.synthesis.noise(len(z)) if noise is None else noise
        if z.ndim == 3:
            labels = labels.repeat_interleave(z.shape[1])
        normalise, first, *rest = self.mapping
        w = first(normalise(z.flatten(0, -2))) + self.inputs(labels)
        for layer in rest:
            w = layer(w)
        return self.synthesis((w + self.offsets(labels)).view(z.shape), noise)


@dataclass(frozen=True)
class Variant:
    """One way to learn new classes."""

    meaning: str
    generator: str = "hyper"  # or ``aligned`` (a self-aligned one is handed over), ``fine-tune``, ``scratch``
    options: dict[str, Any] = field(default_factory=dict)  # of HyperGenerator, or of the hand-over from self-alignment
    settings: dict[str, Any] = field(default_factory=dict)  # of HyperModulationMethod


_BOTH = {"class_styles": True, "finetune": True}
VARIANTS = {
    "hyper-modulation": Variant("frozen source, heads that begin as the source"),
    "self-aligned": Variant("random heads after self-alignment", "aligned", {"spread": 1.0}),
    "self-aligned, equal vectors": Variant("as published: one class vector for all classes", "aligned"),
    "random start": Variant("random heads", options={"start": "random"}),
    "low-rank heads": Variant("heads of rank 4", options={"rank": 4}),
    "contrastive": Variant("with the contrastive term", settings={"contrastive": 0.01}),
    "fine-tuned copies": Variant("copies of constant, noise, styles and to-RGB train too", options={"finetune": True}),
    "class styles": Variant("an offset of the style for each class (ours)", options={"class_styles": True}),
    "class styles and copies": Variant("both", options=_BOTH),
    "both, random start": Variant("the same from random heads", options={**_BOTH, "start": "random"}),
    "all weights": Variant("all weights train, class through the mapping network", "fine-tune"),
    "from scratch": Variant("no source: both networks begin at random", "scratch"),
}
"""Name → what it is. All but the last begin with the source's discriminator."""


def build_variant(
    name: str,
    data: GANData,
    source: SourceModel,
    schedule: GANSchedule = SCHEDULE,
    seed: int = 0,
    width: int = 16,
    aligned: HyperGenerator | None = None,
    **settings: Any,
) -> HyperModulationMethod:
    """The training of one variant, a key of :data:`VARIANTS`, on ``data`` of :func:`transfer_data`, with copies of the
    source's networks and class vectors of ``width`` numbers; a CourseError where there is no such variant. ``aligned``
    is a self-aligned generator with one class, for ``self-aligned``; ``settings`` are of the method."""
    if name not in VARIANTS:
        raise CourseError(f"there is no variant {name!r}: choose among {', '.join(VARIANTS)}.")
    variant, classes, config = VARIANTS[name], int(data.labels.max()) + 1, source.generator.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        discriminator = ConditionalDiscriminator.from_source(source.discriminator, classes)
        if variant.generator == "scratch":
            generator, discriminator = ConditionalStyleGAN(config, classes), ConditionalDiscriminator(config, classes)
        elif variant.generator == "fine-tune":
            generator = ConditionalStyleGAN.from_source(source.generator, classes)
        elif variant.generator == "aligned":
            if aligned is None:
                raise CourseError("the variant 'self-aligned' needs a self-aligned generator: give aligned=….")
            generator = aligned.with_classes(classes, **variant.options)
        else:
            generator = HyperGenerator(deepcopy(source.generator), classes, width, **variant.options)
    return HyperModulationMethod(data, generator, discriminator, schedule, source.space, **settings | variant.settings)


def train_hypermod(job: Job) -> Card:
    """Hyper-modulation of the people's generator with all training pictures of the six kinds. A weaker penalty and less
    noise than in the comparison let the discriminator see the texture of planets."""
    device, names = job.profile.device, list(KINDS_LEARNED)
    source, data = SourceModel.load(SOURCE, device), kind_classes(names)
    known = transfer_data(source.space, data.part("train"), source.generator.config.latent)
    method = build_variant(OURS, known, source, SHIPPED, job.seed, WIDTH, r1=1.0, noise=0.05)
    steps = job.profile.pick(quick=20, cpu=12000, gpu=60000)
    history = job.run("avatar-hypermod", method, 32, steps, last=True, precision="bf16-mixed", preview_every=2000)
    network = history.averaged["generator"].eval()

    def score(part: str) -> dict[str, float]:
        scores = ClassScores(data.part(part), Judge.load().to(device))
        labels = scores.asked(100)
        found = scores.mean(hyper.draw_classes(network, labels, source.space), labels)
        return found | {f"{ACCURACY} of real pictures": scores.real_accuracy}

    recipe = {"batch_size": 32, "pictures": len(data.part("train")), "space": "avatar-autoencoder"}
    recipe |= {"r1": method.r1, "mixing": method.mixing, "noise": method.noise} | asdict(SHIPPED)
    config = hyper.hyper_config(SOURCE, names, WIDTH, None, **VARIANTS[OURS].options)
    card = Card("avatar-hypermod", hyper.HYPER_KIND, config, recipe, data=data_hash(data), metrics=on_held_out(score))
    parts = "Heads, class network, class styles, and copies of constant, noise, styles and to-RGB"
    card.notes = f"{parts}; the modulated generator is {SOURCE}. Scores: avatar-judge, means over classes."
    return publish(job, card, hyper.hyper_tensors(network), history, f"{KERNEL} on val")


def train_hypermod_comparison(job: Job) -> Card:
    """Every variant at 50 pictures a class, and some at 10 and 200, over three seeds; the seed chooses pictures too."""
    job = replace(job, precision=job.precision or "bf16-mixed")
    device, names = job.profile.device, list(KINDS_LEARNED)
    source, data = SourceModel.load(SOURCE, device), kind_classes(names)
    scores = ClassScores(data.subset(data.split > 0), Judge.load().to(device))
    labels = scores.asked(32)
    aligned, alignment = _aligned(job, source)

    def build(variant: str, pictures: int, seed: int) -> tuple[HyperModulationMethod, Look]:
        few = kind_classes(names, pictures, seed).part("train")
        known = transfer_data(source.space, few, source.generator.config.latent)

        def look(network: nn.Module, stop: int) -> tuple[Tensor, dict[str, float]]:
            drawn = hyper.draw_classes(network, labels, source.space, seed)
            found = scores.by_class(drawn, labels)
            mean = {name: found[INTRA_CLASS_MEAN][name] for name in (KERNEL, FRECHET, ACCURACY)}
            return drawn, mean | {f"{KERNEL}, {name}": found[name][KERNEL] for name in names}

        return build_variant(variant, known, source, SCHEDULE, seed, WIDTH, aligned), look

    plan = [(variant, 50, 1 if variant == "self-aligned, equal vectors" else 3) for variant in VARIANTS]
    plan += [(variant, pictures, 1) for pictures in (10, 200) for variant in (OURS, "from scratch")]
    contenders = []
    for variant, pictures, seeds in plan:
        name = variant if pictures == 50 else f"{variant}, {pictures} pictures"
        settings = {"meaning": VARIANTS[variant].meaning} | (alignment if "aligned" in variant else {})
        contenders.append(Contender(name, partial(build, variant, pictures), BATCH, seeds, settings=settings))
    stops = job.profile.pick(quick=(2, 4), cpu=STOPS, gpu=STOPS)
    results = compare(job, "avatar-hypermod-comparison", contenders, stops, shown=2 * len(names))
    for name in set(results) - set(SHOWN):
        results[name][0].pop("samples", None)
    card = Card("avatar-hypermod-comparison", "comparison", {"source": SOURCE, "classes": names, "width": WIDTH})
    card.data = data_hash(data)
    card.recipe = {"batch_size": BATCH, "chance": scores.chance, "real accuracy": scores.real_accuracy}
    card.recipe |= asdict(SCHEDULE)
    card.notes = "Distances and class accuracy: judge features, held-out pictures (val and test), mean over classes."
    pairs = [(a, b) for a in ("hyper-modulation", "self-aligned") for b in ("random start", "from scratch")]
    pairs += [("hyper-modulation", "self-aligned")] + [(OURS, other) for other in VARIANTS if other != OURS]
    return publish_comparison(job, card, results, f"{OURS}: {KERNEL}", pairs)


def _aligned(job: Job, source: SourceModel) -> tuple[HyperGenerator, dict[str, float]]:
    """The source's imitation by a random hypernetwork, and what it took."""
    torch.manual_seed(0)
    learner, name = HyperGenerator(deepcopy(source.generator), 1, WIDTH, start="random"), "avatar-hypermod-alignment"
    steps, before = job.profile.pick(quick=2, cpu=400, gpu=10000), job.clock()
    method = hyper.SelfAlignmentMethod(learner, every=50)
    history = replace(job, steps=None, seconds=None).run(name, method, 16, steps, log_every=50)
    spent = {"alignment steps": steps, "alignment seconds": job.clock() - before}
    spent["difference left"] = history.curve["pictures"][-1]
    # A resumed comparison finds the alignment done, and in this file what it took.
    return learner, kept(job.work / name / "spent.json", lambda: spent)
