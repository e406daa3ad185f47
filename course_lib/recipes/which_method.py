"""One new kind, few pictures, one budget of seconds: every method of the course in its place. Notebook 11 shows it."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .. import bn_transfer as bn
from ..cinn.flow import ConditionalFlow, FlowConfig
from ..data.avatars import kind_classes, load_kinds, load_people
from ..data.image_set import ImageSet, to_float, to_uint8
from ..evaluation.scores import ACCURACY, KERNEL, ClassScores, Judge, copy_share
from ..experts.conditions import LabelExpert
from ..experts.protocol import SourceModel
from ..gan_training import load_codes
from ..hypermod import draw_classes, transfer_data
from ..mind2mind import MainDirections, MindMethod, load_halves, uniform_noise
from ..training.runs import Card, Method
from ..translation.translator import FlowMethod, Pairs
from .bn_transfer import TUNED
from .hypermod import OURS, SCHEDULE, build_variant
from .mind2mind import SIZES, warm_up
from .recipe import Contender, Job, Look, compare, data_hash, publish_comparison

NAME, NEAR, FAR = "which-method", "critters", "planets"
COPIES, COMPANION, CODE_NOISE = "near copies", "micah", 0.1
DRAWN, SHOWN = 160, 6

Built = tuple[Method, Callable[[nn.Module, int, int], Tensor]]
"""A method to train, and what draws with it: trained network, number of pictures, seed → ``(N, 3, S, S)``, CPU."""


@dataclass(frozen=True)
class Way:
    """One method."""

    build: str  # name of the method of Bench that makes it
    option: Any  # what that method is called with
    batch_size: int
    stops: tuple[int, ...]  # about 8, 16, 35 and 75 seconds of a busy core; the last one only for the near kind
    precision: str = "bf16-mixed"  # small products gain nothing from half precision


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
"""Name → how it is run. Where a run is scored, its learning rates have just fallen, as at the end of such a run."""
MAIN = tuple(WAYS)[:6]  # those that also get the far kind, and other numbers of pictures


def mirrored(data: ImageSet) -> ImageSet:
    """The pictures, and behind them their mirror images, all for training."""
    labels = {name: value.repeat(2) for name, value in data.labels.items()}
    images = torch.cat([data.images, data.images.flip(-1)])
    return ImageSet(data.name, images, labels, data.classes, split=data.split.repeat(2))


class Bench:
    """The frozen sources on one device, and what a method makes of few pictures of one kind, its option and a seed."""

    def __init__(self, device: str = "cpu"):
        self.device = device
        self.stylegan, self.biggan = (SourceModel.load(f"avatar-{name}", device) for name in ("stylegan", "biggan"))
        self.alae, self.autoencoder = (load_halves(f"avatar-{name}", device) for name in ("alae", "autoencoder"))
        self.codes, self.judge = load_codes(), Judge.load().to(device)

    def build(self, way: str, few: ImageSet, seed: int) -> Built:
        """A key of :data:`WAYS`."""
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
        mixtures = bn.similar_mixtures(self.biggan, known.latents, known.labels)
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
        """Notebooks 03 and 05: one flow for people and for the new kind, told apart by a label, in main directions of
        the new kind. People keep it from learning few pictures by heart at once, and make it a translator."""
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


def pack(pictures: Tensor) -> bytes:
    """Pictures ``(N, 3, S, S)`` in [−1, 1] side by side as one small WebP file."""
    strip = to_uint8(torch.cat(list(pictures), 2).clamp(-1, 1))
    found = io.BytesIO()
    Image.fromarray(strip.permute(1, 2, 0).contiguous().numpy()).save(found, "WEBP", quality=90)
    return found.getvalue()


def unpack(content: Tensor) -> Tensor:
    """The way back: bytes ``uint8 (n,)`` as they lie in the checkpoint → ``(N, 3, S, S)`` in [−1, 1]."""
    strip = torch.from_numpy(np.array(Image.open(io.BytesIO(content.numpy().tobytes())).convert("RGB")))
    return torch.stack(to_float(strip.permute(2, 0, 1)).split(len(strip), 2))


def contenders(bench: Bench, job: Job, held: dict[str, ClassScores], seeds: int = 3) -> list[Contender]:
    """What is compared, in the order of importance: the near kind with 50 pictures and ``seeds`` repetitions, then far,
    10 and 200. ``held`` are kind → pictures that nobody trains on. Strips of the first seed lie beside its scores."""

    def build(way: str, kind: str, pictures: int, name: str, seed: int) -> tuple[Method, Look]:
        few = kind_classes([kind], pictures, seed).part("train")
        known = bench.judge.features(torch.cat(list(few.batches(250))))
        method, draw = bench.build(way, few, seed)

        def look(network: nn.Module, stop: int) -> tuple[Tensor, dict[str, float]]:
            drawn = draw(network, DRAWN, seed)
            if not seed:
                path = job.work / NAME / "strips" / f"{name}: {stop}.webp"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(pack(drawn[:SHOWN]))
            copies = copy_share(bench.judge.features(drawn), known, held[kind].features, 0.1)
            return drawn, _scores(held[kind], drawn) | {COPIES: copies}

        return method, look

    plan = [(way, NEAR, 50, way, seeds) for way in WAYS]
    plan += [(way, FAR, 50, f"{way}, {FAR}", 1) for way in MAIN]
    plan += [(way, NEAR, count, f"{way}, {count} pictures", 1) for count in (10, 200) for way in MAIN]
    found = []
    for way, kind, count, name, repeated in plan:
        how, made = WAYS[way], partial(build, way, kind, count, name)
        settings = {"method": way, "kind": kind, "pictures": count, "precision": how.precision}
        stops = (1, 2) if job.profile.name == "quick" else how.stops if repeated > 1 else how.stops[:3]
        found.append(Contender(name, made, how.batch_size, repeated, stops, settings, how.precision))
    return found


def _scores(held: ClassScores, pictures: Tensor) -> dict[str, float]:
    """Kernel distance and class accuracy of pictures of the one kind in ``held``."""
    (kind,) = held.classes
    found = held.by_class(pictures, torch.zeros(len(pictures), dtype=torch.int64))[kind]
    return {key: found[key] for key in (KERNEL, ACCURACY)}


def _references(bench: Bench, kind: str, held: ClassScores) -> dict[str, float]:
    """What real training pictures score, as they are and decoded by the frozen halves, and what people score."""
    real = torch.cat(list(kind_classes([kind]).part("train").batches(250)))
    people = torch.cat(list(load_people().part("test").where(style=COMPANION).batches(250)))[:DRAWN]
    shown = {"real pictures": real, "people": people}
    for name, halves in (("autoencoder", bench.autoencoder), ("ALAE", bench.alae)):
        shown[f"decoded by the {name}"] = halves.decode(halves.encode(real))
    return {f"{name}, {kind}: {key}": v for name, some in shown.items() for key, v in _scores(held, some).items()}


def _costs(job: Job, bench: Bench, way: str) -> dict[str, float]:
    """Seconds before training with 50 pictures; milliseconds for one sample more in a batch, decoding included."""
    for _ in range(2):  # what is loaded at the first time counts for nobody
        before = job.clock()
        method, draw = bench.build(way, kind_classes([NEAR], 50, 1).part("train"), 1)
        found = {f"{way}: preparation seconds": job.clock() - before}
    network, spent = next(iter(method.modules.values())).eval(), []
    with torch.no_grad():
        for count in (100, 100, 300):
            before = job.clock()
            draw(network, count, 0)
            spent.append(job.clock() - before)
    return found | {f"{way}: ms a sample": 1e3 * (spent[2] - spent[1]) / 200}


def train_which_method(job: Job) -> Card:
    """All methods in the same seconds of training on one core; preparation and drawing stand beside them."""
    bench, held = Bench(job.profile.device), {}
    warm_up(job.profile.device)
    for kind in (NEAR, FAR):
        data = kind_classes([kind])
        held[kind] = ClassScores(data.subset(data.split > 0), bench.judge)
    lines = contenders(bench, job, held, job.profile.pick(quick=1, cpu=3, gpu=3))
    results = compare(job, NAME, lines)
    card = Card(NAME, "comparison", {"near": NEAR, "far": FAR}, data=data_hash(load_kinds()))
    card.recipe = {"chance": held[NEAR].chance, "samples scored": DRAWN, "companions": COMPANION}
    for kind, scores in held.items():
        card.metrics |= _references(bench, kind, scores)
    for way in WAYS:
        card.metrics |= _costs(job, bench, way)
    card.notes = "Scores: judge features, 80 held-out pictures (val and test). Seconds: of the process, on a busy core."
    pairs = [(a, b) for k, a in enumerate(MAIN) for b in MAIN[k + 1 :]]
    files = sorted((job.work / NAME / "strips").glob("*.webp"))
    strips = {f"strips/{one.stem}": torch.frombuffer(bytearray(one.read_bytes()), dtype=torch.uint8) for one in files}
    return publish_comparison(job, card, results, f"{MAIN[0]}: {KERNEL}", pairs, **strips)
