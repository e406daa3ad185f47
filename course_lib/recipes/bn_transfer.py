"""Training of class transfers: the shipped generator of new classes, and a comparison with other ways to learn them."""

from dataclasses import asdict, replace

from torch import Tensor, nn

from .. import bn_transfer as bn
from ..bn_transfer import BN_KIND, PropagationMethod, PropagationSettings
from ..data.avatars import NEW_KINDS, kind_classes, load_kinds
from ..evaluation.scores import ACCURACY, FRECHET, KERNEL, ClassScores, Judge
from ..experts.protocol import SourceModel
from ..gan_training import CodeSpace, GANSchedule, load_codes
from ..training.runs import Card, History, load_card, load_weights, save_weights
from .recipe import Contender, Job, Look, compare, data_hash, on_held_out, publish, publish_comparison

SOURCE, SHIPPED, COMPARISON = "avatar-biggan", "avatar-bn-transfer", "avatar-bn-transfer-comparison"

_SCHEDULE = GANSchedule(100, 30, 1e-3, 3e-4, 5e-4, reconstruction=10.0, averaging=0.98)
_LONGER = replace(_SCHEDULE, decode=150, lead=50)
TUNED = {
    "propagation": PropagationSettings(schedule=_LONGER, own_rate=10.0),
    "free": PropagationSettings("free", "mean", schedule=_LONGER, own_rate=10.0),
    "propagation, both stages": PropagationSettings(schedule=_SCHEDULE, own_rate=10.0, ft_from=60),
    "fine-tuning": PropagationSettings("fine-tuning", schedule=_SCHEDULE),
    "scratch": PropagationSettings("scratch", "random", schedule=replace(_SCHEDULE, decode_rate=2e-3)),
}
"""For runs of 300 steps, of 450 where only batch norms train; chosen by trials on one seed, 20 pictures a class."""


def comparison_lines(
    source: SourceModel, codes: CodeSpace, held: ClassScores, stops: tuple[int, ...], seeds: int = 3
) -> list[Contender]:
    """What is compared, in the order of importance, by 30 pictures a class against ``held``: at ``stops``, half as many
    again where only batch norms train, with other amounts only at the last; the main lines with ``seeds`` seeds."""
    # Rates fall before each stop, so none stands in the middle of the adversarial steps.
    longer = tuple(sorted({stop * 3 // 2 for stop in (*stops[:2], stops[-1])}))

    def line(
        name: str, settings: PropagationSettings, per_class: int = 20, old: int = 0, seeds: int = 1, every: bool = False
    ) -> Contender:
        def build(seed: int) -> tuple[PropagationMethod, Look]:
            data = bn.new_class_data(source, kind_classes(NEW_KINDS, per_class, seed).part("train"), codes)
            begin = bn.with_old(source, old, seed) if old else source
            mixtures = bn.similar_mixtures(begin, data.latents, data.labels)

            def look(network: nn.Module, stop: int) -> tuple[Tensor, dict[str, float]]:
                drawn, _ = bn.draw_new_classes(bn.recalibrate_batchnorm(network), source.space, 30, seed)
                return drawn, held.mean(drawn, held.asked(30))

            networks = bn.make_networks(begin, settings, mixtures, seed)
            return PropagationMethod(data, *networks, settings, source.space), look

        places = longer if settings.schedule is _LONGER else stops
        described = asdict(settings) | {"pictures a class": per_class, "old classes": old or len(source.classes)}
        return Contender(name, build, settings.batch_size, seeds, places if every else places[-1:], described)

    tuned = TUNED["propagation"]
    return [
        *(line(name, settings, seeds=seeds, every=True) for name, settings in TUNED.items()),
        line("propagation, random start", replace(tuned, init="random")),
        line("free, mixture start", replace(TUNED["free"], init="mixture")),
        *(line(f"propagation, {old} old classes", tuned, old=old) for old in (5, 20)),
        *(line(f"{name}, 50 pictures", settings, 50, every=True) for name, settings in TUNED.items()),
    ]


def train_bn_transfer_comparison(job: Job) -> Card:
    """Propagation beside other ways to learn the same classes, with equally many steps."""
    device, job = job.profile.device, replace(job, precision=job.precision or "bf16-mixed")
    source, data = SourceModel.load(SOURCE, device), kind_classes(NEW_KINDS)
    held = ClassScores(data.subset(data.split > 0), Judge.load().to(device))
    seeds = job.profile.pick(quick=1, cpu=3, gpu=5)
    stops = job.profile.pick(quick=(0, 2), cpu=(0, 100, 200, 300), gpu=(0, 150, 450, 1500))
    lines = comparison_lines(source, load_codes(SOURCE), held, stops, seeds)
    compare(job, COMPARISON, lines[: len(TUNED)], shown=8 * 2)  # what matters most has all its seeds first
    results = compare(job, COMPARISON, lines)
    card = Card(COMPARISON, "comparison", {}, data=data_hash(load_kinds()))
    card.metrics = {"class accuracy of real pictures": held.real_accuracy, "class accuracy of a guess": held.chance}
    first = {name: repeated[0]["scores"] for name, repeated in results.items()}  # some lines have no other seed
    for key in (KERNEL, ACCURACY):
        card.metrics |= {f"{name}, seed 0: {key}": one[key][-1] for name, one in first.items()}
    card.notes = "Scores in judge features on the held-out pictures (val and test) of the new classes, 80 of each."
    pairs = [("propagation, both stages", "scratch"), ("propagation, both stages", "fine-tuning")]
    pairs += [("propagation", other) for other in ("free", "scratch", "propagation, random start")]
    pairs += [("propagation", "free, mixture start")]
    return publish_comparison(job, card, results, f"propagation: {KERNEL}", pairs)


def train_transfer(job: Job) -> Card:
    """The eight new classes from their training pictures, in both stages; shipped is the best stop on val."""
    device, job = job.profile.device, replace(job, precision=job.precision or "bf16-mixed")
    source, judge, data = SourceModel.load(SOURCE, device), Judge.load().to(device), kind_classes(NEW_KINDS)
    known = bn.new_class_data(source, data.part("train"), load_codes(SOURCE))
    steps = job.steps or job.profile.pick(quick=4, cpu=4000, gpu=30000)
    schedule = replace(_SCHEDULE, decode=steps // 5, lead=steps // 40, rate=3e-4, averaging=0.999)
    settings = replace(TUNED["propagation, both stages"], batch_size=48, schedule=schedule, ft_from=steps // 10)
    networks = bn.make_networks(source, settings, bn.similar_mixtures(source, known.latents, known.labels), job.seed)
    method = PropagationMethod(known, *networks, settings, source.space)

    def score(network: nn.Module, part: str, seed: int) -> tuple[dict[str, float], ClassScores]:
        held = ClassScores(data.part(part), judge)
        return held.mean(bn.draw_new_classes(network, source.space, 100, seed)[0], held.asked(100)), held

    stops, folder = sorted({settings.ft_from, *(steps * part // 10 for part in range(2, 11))}), job.work / SHIPPED
    for stop in stops:
        history = replace(job, steps=stop).run(SHIPPED, method, settings.batch_size, stop)
        network = bn.recalibrate_batchnorm(history.averaged["generator"])
        if not (folder / f"step-{stop}.json").is_file():
            found, _ = score(network, "val", job.seed)
            save_weights(network.state_dict(), Card(f"step-{stop}", BN_KIND, {}, metrics=found), folder, bits=32)
            print(stop, {key: round(value, 3) for key, value in found.items()}, flush=True)
    scored = [load_card(f"step-{stop}", folder).metrics for stop in stops]
    best = min(zip(stops, scored, strict=True), key=lambda one: one[1][FRECHET])[0]
    network.load_state_dict(load_weights(f"step-{best}", folder)[0])
    network.class_names = data.classes["class"]

    def final(part: str) -> dict[str, float]:
        found, held = score(network, part, job.seed + 1)
        return found | {"class accuracy of real pictures": held.real_accuracy}

    recipe = asdict(settings) | {"pictures": len(known.labels), "space": "avatar-autoencoder"}
    recipe |= {"classes": network.class_names, "best step": best}
    config = bn.transfer_config(network, SOURCE, network.class_names)
    card = Card(SHIPPED, BN_KIND, config, recipe, data=data_hash(load_kinds()), metrics=on_held_out(final))
    card.notes = "Only what is new is stored; the old classes are those of avatar-biggan, unchanged."
    curve = {"scored step": stops} | {f"{key} on val": [one[key] for one in scored] for key in scored[0]}
    history = History(history.steps, history.seconds, history.curve | curve)
    return publish(job, card, bn.bn_transfer_tensors(network), history, f"{FRECHET} on val")
