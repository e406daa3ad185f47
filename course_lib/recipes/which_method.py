"""One new kind, few pictures, one budget of seconds: every method of the course in its place. Notebook 11 shows it."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..bn_transfer import transfer as bn
from ..bn_transfer.transfer import similar_mixtures
from ..cinn.flow import ConditionalFlow, FlowConfig
from ..data.avatars import kind_classes, load_kinds, load_people
from ..data.image_set import ImageSet, to_float
from ..evaluation.class_scores import ACCURACY, KERNEL, ClassScores
from ..evaluation.distances import copy_share
from ..evaluation.features import Judge
from ..experts.conditions import LabelExpert
from ..experts.protocol import SourceModel
from ..gan_training import load_codes
from ..hypermod.training import draw_classes, transfer_data
from ..mind2mind.halves import MainDirections, load_halves
from ..mind2mind.mindgan import MindMethod, uniform_noise
from ..training.files import Card
from ..training.loop import train
from ..training.method import Budget, Method
from ..translation.training import FlowMethod, Pairs
from .bn_transfer import TUNED
from .hypermod import OURS, SCHEDULE, build_variant
from .mind2mind import SIZES
from .recipe import Contender, Job, compare, data_hash, publish_comparison, scores_file

__all__ = ["COPIES", "FAR", "MAIN", "NAME", "NEAR", "PICTURES", "WAYS", "Bench", "Way", "contenders", "mirrored"]
__all__ += ["train_which_method", "unpack"]

NAME, NEAR, FAR, PICTURES = "which-method", "critters", "planets", (10, 50, 200)
COPIES, COMPANION, CODE_NOISE = "near copies", "micah", 0.1
DRAWN, SHOWN = 160, 6

Built = tuple[Method, Callable[[nn.Module, int, int], Tensor]]
"""A method to train, and what draws with it: trained network, number of pictures, seed → ``(N, 3, S, S)``, CPU."""


@dataclass(frozen=True)
class Way:
    """One method.

    Attributes:
        build: name of the method of :class:`Bench` that makes it.
        option: what that method is called with.
        batch_size: of a step.
        stops: steps that take about 8, 16, 35 and 75 seconds of a busy core; the last one only for the near kind.
        precision: as Fabric names it; small products gain nothing from half precision.
    """

    build: str
    option: Any
    batch_size: int
    stops: tuple[int, ...]
    precision: str = "bf16-mixed"


WAYS = {
    "Mind2Mind, autoencoder": Way("mind", 64, 64, (300, 800, 2000, 4600), "32-true"),
    "propagation, both stages": Way("propagation", "propagation, both stages", 32, (60, 140, 300, 600)),
    "hyper-modulation, ours": Way("hyper", OURS, 32, (70, 160, 330, 640)),
    "Net2Net": Way("flow", 600, 64, (60, 200, 700, 2000), "32-true"),
    "fine-tuning": Way("hyper", "all weights", 32, (90, 200, 420, 840)),
    "from scratch": Way("hyper", "from scratch", 32, (90, 200, 420, 840)),
    "propagation, BN stage": Way("propagation", "propagation", 32, (70, 180, 400, 800)),
    "hyper-modulation": Way("hyper", "hyper-modulation", 32, (70, 160, 330, 640)),
    "Mind2Mind, ALAE": Way("mind", 0, 64, (300, 800, 2000, 4000), "32-true"),
}
"""Name → how it is run; from hyper-modulation to scratch these are variants of notebook 08. Where a run is scored, its
learning rates have just fallen, as at the end of a run of that length."""
MAIN = tuple(WAYS)[:6]
"""Those that also get the far kind, and other numbers of pictures."""


def mirrored(data: ImageSet) -> ImageSet:
    """The pictures, and behind them their mirror images, all for training."""
    labels = {name: value.repeat(2) for name, value in data.labels.items()}
    images = torch.cat([data.images, data.images.flip(-1)])
    return ImageSet(data.name, images, labels, data.classes, split=data.split.repeat(2))


class Bench:
    """The frozen sources, and what a method makes of few pictures.

    Each of :meth:`hyper`, :meth:`propagation`, :meth:`mind` and :meth:`flow` takes few pictures of one kind, its option
    and a seed, and returns a method to train and a function that draws: trained network, number of pictures and seed →
    ``(N, 3, S, S)`` on the CPU.

    Args:
        device: of everything.
    """

    def __init__(self, device: str = "cpu"):
        self.device = device
        self.stylegan, self.biggan = (SourceModel.load(f"avatar-{name}", device) for name in ("stylegan", "biggan"))
        self.alae, self.autoencoder = (load_halves(f"avatar-{name}", device) for name in ("alae", "autoencoder"))
        self.codes, self.judge = load_codes(), Judge.load().to(device)

    def build(self, way: str, few: ImageSet, seed: int) -> Built:
        """What :data:`WAYS` says of ``way``."""
        return getattr(self, WAYS[way].build)(few, WAYS[way].option, seed)

    def hyper(self, few: ImageSet, variant: str, seed: int) -> Built:
        """Variants of notebook 08, from the StyleGAN of people."""
        known = transfer_data(self.stylegan.space, few, self.stylegan.generator.config.latent)

        def draw(network: nn.Module, count: int, seed: int) -> Tensor:
            return draw_classes(network, torch.zeros(count, dtype=torch.int64), self.stylegan.space, seed)

        return build_variant(variant, known, self.stylegan, SCHEDULE, seed), draw

    def propagation(self, few: ImageSet, settings: str, seed: int) -> Built:
        """Notebook 09, from the BigGAN of 28 kinds."""
        known, tuned = bn.new_class_data(self.biggan, mirrored(few), self.codes), TUNED[settings]
        mixtures = similar_mixtures(self.biggan, known.latents, known.labels)
        networks = bn.make_networks(self.biggan, tuned, mixtures, seed)

        def draw(network: nn.Module, count: int, seed: int) -> Tensor:
            return bn.draw_new_classes(bn.recalibrate_batchnorm(network), self.biggan.space, count, seed)[0]

        return bn.PropagationMethod(known, *networks, tuned, self.biggan.space), draw

    def mind(self, few: ImageSet, directions: int, seed: int) -> Built:
        """Notebook 10, on codes of the ALAE, or on main directions of the autoencoder where ``directions`` is not 0."""
        data, expert = mirrored(few), self.alae
        if directions:
            expert = MainDirections.fit(self.autoencoder, data, min(directions, len(data) - 1))
        codes = torch.cat([expert.encode(part.to(self.device)).cpu() for part in data.batches(250)])
        config = replace(SIZES, latent=expert.latent_dim)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            method = MindMethod(codes, config, average=0.99)

        def draw(network: nn.Module, count: int, seed: int) -> Tensor:
            z = uniform_noise(count, config, torch.Generator().manual_seed(seed))
            return expert.decode(network(z.to(self.device))).cpu()

        return method, draw

    def flow(self, few: ImageSet, companions: int, seed: int) -> Built:
        """Notebooks 03 and 05: one flow for people and for the new kind, told apart by a label.

        Its latents are main directions of the new kind, as for Mind2Mind. People keep it from learning few pictures by
        heart at once, and make it a translator.
        """
        expert, new = LabelExpert(2), mirrored(few)
        people = load_people().part("train").where(style=COMPANION)
        order = torch.randperm(len(people), generator=torch.Generator().manual_seed(seed))[:companions]
        rows = torch.arange(len(new)).repeat(max(1, companions // len(new)))  # as many of both, on average
        label = torch.cat([torch.zeros(len(order)), torch.ones(len(rows))]).long()
        both = ImageSet("both", torch.cat([people.images[order], new.images[rows]]), {"label": label})
        halves = MainDirections.fit(self.autoencoder, new, min(SIZES.latent, len(new) - 1))
        codes = torch.cat([halves.encode(part.to(self.device)).cpu() for part in both.batches(250)])
        pairs = Pairs(expert.encode(label), codes, torch.full_like(codes, CODE_NOISE))
        sizes = {"embedding_dim": 16, "embedder_hidden_dim": 16, "embedder_depth": 0, "hidden_dim": 128, "blocks": 6}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            flow = ConditionalFlow(FlowConfig(halves.latent_dim, (2,), condition_shift=True, seed=seed, **sizes))
        flow.fit_shift(codes, pairs.condition)

        def draw(network: nn.Module, count: int, seed: int) -> Tensor:
            condition = expert.encode(torch.ones(count, dtype=torch.int64)).to(self.device)
            return halves.decode(network.sample(condition, 1.0, torch.Generator().manual_seed(seed))).cpu()

        return FlowMethod(pairs, flow, rate=1e-3, weight_decay=0.02), draw


class _Scores:
    """Builds, draws and scores for one kind; what was built last is what is scored, as ``compare`` goes about it."""

    def __init__(self, bench: Bench, kind: str, job: Job):
        self.bench, self.kind, self.job, data = bench, kind, job, kind_classes([kind])
        self.scores, self.real = ClassScores(data.subset(data.split > 0), bench.judge), data.part("train")

    def build(self, way: str, pictures: int, name: str, seed: int) -> Method:
        few, done = kind_classes([self.kind], pictures, seed).part("train"), 0
        if (path := scores_file(self.job, NAME, name, seed)).is_file():  # it goes on where it was interrupted
            done = len(json.loads(path.read_text())["steps"])
        self.known, self.strip = self.bench.judge.features(torch.cat(list(few.batches(250)))), (name, seed, done)
        method, self.drawing = self.bench.build(way, few, seed)
        return method

    def draw(self, network: nn.Module, seed: int) -> Tensor:
        return self.drawing(network, DRAWN, seed)

    def of(self, pictures: Tensor) -> dict[str, float]:
        """Kernel distance and class accuracy."""
        found = self.scores.by_class(pictures, torch.zeros(len(pictures), dtype=torch.int64))[self.kind]
        return {key: found[key] for key in (KERNEL, ACCURACY)}

    def __call__(self, pictures: Tensor) -> dict[str, float]:
        """These, and near copies; the first pictures of the first seed are kept at every stop."""
        (name, seed, stop), features = self.strip, self.bench.judge.features(pictures)
        self.strip = name, seed, stop + 1
        if not seed:
            path = self.job.work / NAME / "strips" / f"{name}: {stop}.webp"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pack(pictures[:SHOWN]))
        return self.of(pictures) | {COPIES: copy_share(features, self.known, self.scores.features, 0.1)}

    def references(self) -> dict[str, float]:
        """What real training pictures score, as they are and decoded by the frozen halves, and what people score."""
        real = torch.cat(list(self.real.batches(250)))
        people = torch.cat(list(load_people().part("test").where(style=COMPANION).batches(250)))[:DRAWN]
        halves = {"autoencoder": self.bench.autoencoder, "ALAE": self.bench.alae}
        shown = {"real pictures": real, "people": people}
        shown |= {f"decoded by the {name}": one.decode(one.encode(real)) for name, one in halves.items()}
        return {f"{name}, {self.kind}: {key}": v for name, x in shown.items() for key, v in self.of(x).items()}


def pack(pictures: Tensor) -> bytes:
    """Pictures ``(N, 3, S, S)`` in [−1, 1] side by side as one small WebP file."""
    strip = torch.cat(list(pictures), 2).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    found = io.BytesIO()
    Image.fromarray(strip.permute(1, 2, 0).contiguous().numpy()).save(found, "WEBP", quality=90)
    return found.getvalue()


def unpack(content: Tensor) -> Tensor:
    """The way back: bytes ``uint8 (n,)`` as they lie in the checkpoint → ``(N, 3, S, S)`` in [−1, 1]."""
    strip = torch.from_numpy(np.array(Image.open(io.BytesIO(content.numpy().tobytes())).convert("RGB")))
    return torch.stack(to_float(strip.permute(2, 0, 1)).split(len(strip), 2))


def contenders(scores: dict[str, _Scores], seeds: int = 3) -> list[Contender]:
    """What is compared, in the order of importance: the near kind with 50 pictures, then far, 10 and 200.

    Args:
        scores: kind → what builds, draws and scores; :data:`NEAR` and :data:`FAR`.
        seeds: repetitions with 50 pictures.
    """
    plan = [(way, NEAR, 50, way, seeds) for way in WAYS]
    plan += [(way, FAR, 50, f"{way}, {FAR}", 1) for way in MAIN]
    plan += [(way, NEAR, count, f"{way}, {count} pictures", 1) for count in (10, 200) for way in MAIN]
    return [
        Contender(
            name,
            partial(scores[kind].build, way, count, name),
            scores[kind].draw,
            WAYS[way].batch_size,
            repeated,
            WAYS[way].stops if repeated > 1 else WAYS[way].stops[:3],
            {"method": way, "kind": kind, "pictures": count, "precision": WAYS[way].precision},
            WAYS[way].precision,
        )
        for way, kind, count, name, repeated in plan
    ]


def train_which_method(job: Job) -> Card:
    """All methods in the same seconds of one core.

    Seconds are those of the method's own training. Metrics have what stands beside them: ``WAY: preparation seconds``
    (encoding of pictures, codes, a start) and ``WAY: ms a sample``.
    """
    bench = Bench(job.profile.device)
    warm = MindMethod(torch.zeros(4, SIZES.latent), SIZES)  # what is loaded at the first step counts for nobody
    train(warm, Budget(1), 4, accelerator=job.profile.device, checkpoint_every=0, preview_every=0, progress=False)
    scores = {kind: _Scores(bench, kind, job) for kind in (NEAR, FAR)}
    lines, results = contenders(scores, job.profile.pick(quick=1, cpu=3, gpu=3)), {}
    for seeds in sorted({1, max(one.seeds for one in lines)}):  # one seed of everything first
        for one in lines:
            stops = job.profile.pick(quick=(1, 2), cpu=one.stops, gpu=one.stops)
            some = replace(one, seeds=min(seeds, one.seeds), stops=stops)
            results |= compare(job, NAME, [some], scores[one.settings["kind"]], stops)
    card = Card(NAME, "comparison", {"near": NEAR, "far": FAR}, data=data_hash(load_kinds()))
    card.recipe = {"chance": scores[NEAR].scores.chance, "samples scored": DRAWN, "companions": COMPANION}
    for kind in scores.values():
        card.metrics |= kind.references()
    for way in WAYS:
        card.metrics |= {f"{way}: {key}": value for key, value in costs(job, scores[NEAR], way).items()}
    card.notes = (
        "Scores: judge features, the 80 held-out pictures (val and test). Seconds: of the process, on a busy core."
    )
    pairs = [(a, b) for k, a in enumerate(MAIN) for b in MAIN[k + 1 :]]
    strips = {}
    for path in sorted((job.work / NAME / "strips").glob("*.webp")):
        strips[f"strips/{path.stem}"] = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    return publish_comparison(job, card, lines, results, f"{MAIN[0]}: {KERNEL}", pairs, samples=strips)


def costs(job: Job, scores: _Scores, way: str) -> dict[str, float]:
    """Seconds before training with 50 pictures; milliseconds for one sample more in a batch, decoding included."""
    for _ in range(2):  # what is loaded at the first time counts for nobody
        before = job.clock()
        network = next(iter(scores.build(way, 50, "", 1).modules.values())).eval()
        found = {"preparation seconds": job.clock() - before}
    spent = []
    with torch.no_grad():
        for count in (100, 100, 300):
            before = job.clock()
            scores.drawing(network, count, 0)
            spent.append(job.clock() - before)
    return found | {"ms a sample": 1e3 * (spent[2] - spent[1]) / 200}
