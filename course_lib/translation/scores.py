"""Scores of translations on held-out pictures: likelihood, quality, what is kept, what varies, what sentences said."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..data.image_set import ImageSet
from ..data.people import ATTRIBUTES
from ..errors import CourseError
from ..evaluation.distances import diversity, frechet_distance, nearest
from ..evaluation.features import Judge
from ..experts.autoencoder import GridAutoencoder
from ..experts.protocol import SourceExpert
from .training import LATENT_NOISE, GridRegressor, Pairs, encode_pairs, held_out_nats
from .translator import Translator


class ExperimentData:
    """What translators into one target are scored on: ``(N, 3, S, S)`` pictures, latents, features ``(N, F)``."""

    def __init__(self, target: GridAutoencoder, judge: Judge, held: ImageSet):
        self.target, self.judge, self.held = target, judge, held
        self.latents = encode_pairs(held, lambda x: x.new_zeros(len(x), 0), target, LATENT_NOISE)
        self.real = torch.cat(list(held.batches(250))).to(next(target.parameters()).device)
        self.features = judge.features(self.real)

    @torch.no_grad()
    def pairs(self, source: SourceExpert) -> Pairs:
        condition = torch.cat([source.encode(x) for x in self.real.split(250)])
        return Pairs(condition, self.latents.mean, self.latents.std)


@torch.no_grad()
def translation_scores(
    data: ExperimentData, pictures: Tensor, condition: Tensor, source: SourceExpert
) -> dict[str, float]:
    """Scores of translations ``(N, samples, 3, S, S)``, on the CPU, drawn under the source's ``condition (N, …)``.

    Of the first sample of each input: ``frechet`` distance to the real pictures; ``accuracy``, the share of attributes
    that the judge reads right; ``consistency``, the share of the condition's variance that the source finds in the
    translations; ``psnr`` to the real picture in dB, peak 2. Of the samples of one input, 0 where there is one:
    ``diversity``, mean feature distance; ``pixel_spread``, root mean square difference, in [0, 2].
    """
    first, device = pictures[:, 0].to(data.real.device), data.real.device
    features = data.judge.features(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])
    heads, seen = data.judge.network.heads, features[:, 0].to(device)
    labels = [label for label in ATTRIBUTES if label in heads and label in data.held.labels]
    right = [heads[label](seen).argmax(1).cpu() == data.held.labels[label] for label in labels]
    again = torch.cat([source.encode(x) for x in first.split(250)])
    several = pictures.shape[1] > 1
    return {
        "frechet": frechet_distance(data.features, features[:, 0]),
        "accuracy": torch.stack(right).float().mean().item(),
        "consistency": explained(condition.flatten(1), again.flatten(1)),
        "diversity": diversity(features) if several else 0.0,
        "pixel_spread": (pictures[:, 0] - pictures[:, 1]).square().mean().sqrt().item() if several else 0.0,
        "psnr": (10 * (4.0 / (data.real - first).square().mean().clamp_min(1e-10)).log10()).item(),
    }


Scored = tuple[Tensor, dict[str, float]]
"""Translations ``(N, samples, 3, S, S)``, and their scores by name."""


@torch.no_grad()
def score_choice(
    data: ExperimentData, translator: Translator, samples: int = 2, temperature: float = 1.0, seed: int = 0
) -> Scored:
    """Of the held-out pictures: :func:`translation_scores` and ``nats``."""
    pairs = data.pairs(translator.source)
    many = pairs.condition.repeat_interleave(samples, 0)
    latent = translator.flow.sample(many, temperature, torch.Generator().manual_seed(seed))
    pictures = translator.decode(latent).cpu().unflatten(0, (len(pairs), samples))
    scores = translation_scores(data, pictures, pairs.condition, translator.source)
    return pictures, scores | {"nats": held_out_nats(translator.flow, pairs)}


@torch.no_grad()
def score_regressor(data: ExperimentData, regressor: GridRegressor, source: SourceExpert) -> Scored:
    """The same for the paper's baseline with its one answer; ``error`` is the squared one of the latent, a picture."""
    condition = data.pairs(source).condition
    latent = torch.cat([regressor(part) for part in condition.split(250)])
    pictures = torch.cat([data.target.decode(part).cpu() for part in latent.split(250)])[:, None]
    error = (data.latents.mean - latent).square().sum(1).mean().item()
    return pictures, {"error": error} | translation_scores(data, pictures, condition, source)


def explained(wanted: Tensor, found: Tensor) -> float:
    """1 − Σ‖wanted − found‖² / Σ‖wanted − mean‖²: explained share of variance of two rows ``(N, K)`` or more."""
    if wanted.shape != found.shape or len(wanted) < 2:
        raise CourseError(f"give two sets of one shape, two rows or more, not {[*wanted.shape]} and {[*found.shape]}.")
    return (1.0 - (wanted - found).square().sum() / (wanted - wanted.mean(0)).square().sum()).item()


@torch.no_grad()
def inherited(judge: Judge, grid: Tensor, labels: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Attribute → shares of crossed pictures, ``cross_grid (N, N, 3, S, S)``, with the class of the residual's picture
    and of the condition's, among pairs whose classes differ; ``labels``: attribute → true class ``int64 (N,)``."""
    count = len(next(iter(labels.values())))
    if grid.shape[:2] != (count, count):
        raise CourseError(f"{count} pictures need a grid of as many rows and columns, not {tuple(grid.shape[:2])}.")
    found, heads = {}, judge.network.heads
    features = judge.features(grid.flatten(0, 1)).to(next(heads.parameters()).device)
    for name, classes in labels.items():
        read = heads[name](features).argmax(1).cpu().view(count, count)
        row, column = classes[:, None].expand(count, count), classes[None].expand(count, count)
        differs = row != column
        found[name] = tuple((read == own)[differs].float().mean().item() for own in (row, column))
    return found


# --- sentences ------------------------------------------------------------------------------------------------------

Named = Sequence[Mapping[str, str]]
"""For every picture what its sentence names, attribute → value."""


def _asked(named: Named) -> dict[str, Tensor]:
    """Attribute → class numbers ``int64 (N,)``, −1 where a sentence leaves it open."""
    every = ATTRIBUTES.items()
    return {k: torch.tensor([known.index(one[k]) if k in one else -1 for one in named]) for k, known in every}


def read_as_asked(pictures: Tensor, named: Named, judge: Judge) -> dict[str, float]:
    """Attribute that a sentence names → share of its pictures ``(N, 3, S, S)`` in which the judge reads this value."""
    shares = {}
    for name, asked in _asked(named).items():
        said = asked >= 0
        if said.any():
            shares[name] = (judge.predict(pictures[said], name) == asked[said]).float().mean().item()
    return shares


def open_variety(pictures: Tensor, named: Named, judge: Judge) -> dict[str, tuple[float, float]]:
    """Attribute → the chance that the judge reads two different values in two samples ``(B, samples, 3, S, S)`` of one
    sentence, for sentences that name it and for the others; nan if there are none."""
    count, samples = pictures.shape[:2]
    found = {}
    for name, asked in _asked(named).items():
        seen = judge.predict(pictures.flatten(0, 1), name).view(count, samples)
        differ = (seen[:, :, None] != seen[:, None]).float().sum((1, 2)) / (samples * (samples - 1))
        found[name] = (differ[asked >= 0].mean().item(), differ[asked < 0].mean().item())
    return found


def nearest_caption_pictures(
    asked: Sequence[str], sentences: SourceExpert, bank: ImageSet, rows: Tensor, captions: Sequence[str]
) -> Tensor:
    """The baseline that draws nothing, ``(Q, 3, S, S)``: the ``rows (C,)`` whose captions are most like Q sentences."""
    found = nearest(sentences.encode(list(asked)), sentences.encode(list(captions)))[:, 0]
    return bank.batch(rows[found.cpu()])
