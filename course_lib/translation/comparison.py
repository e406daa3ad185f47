"""A flow and its baselines from one source to one target, trained alike and scored alike (paper §4, figure 12)."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from ..cinn import ConditionalFlow, FlowConfig
from ..errors import CourseError
from ..evaluation import Judge, diversity, frechet_distance
from ..experts import Autoencoder
from ..training import Budget, train
from .pairs import Pairs
from .regression import Regressor, RegressorMethod
from .training import FlowMethod, PairMethod

__all__ = ["BASELINES", "Comparison", "compare_translators"]

BASELINES = ("linear map", "linear map + noise", "MLP, random start")
"""What else can be compared: the least-squares map, the same with Gaussian noise of the covariance that it leaves
unexplained (the simplest model with a residual), and an MLP that begins without it."""


@dataclass(frozen=True)
class Comparison:
    """Translators of one source, scored on held-out pictures with judge features.

    Attributes:
        frechet: name → Fréchet distance to the real pictures, lower is better: ``flow``, ``MLP``, and of ``BASELINES``
            those that were asked for.
        diversity: mean feature distance of two samples of the flow for one input.
        samples: ``(N, samples, 3, S, S)`` of the flow.
        regression: ``(N, 3, S, S)`` of the MLP.
        seconds: that all trainings took together.
    """

    frechet: dict[str, float]
    diversity: float
    samples: Tensor
    regression: Tensor
    seconds: float


def compare_translators(
    pairs: Pairs,
    condition: Tensor,
    real_features: Tensor,
    target: Autoencoder,
    judge: Judge,
    steps: int,
    samples: int = 2,
    seed: int = 0,
    blocks: int = 4,
    baselines: Sequence[str] = (),
) -> Comparison:
    """Trains a flow and an MLP from one source to the target's latent for equally many steps, and scores them.

    Both begin with the least-squares map of the latent on the condition. Conditions are vectors.

    Args:
        pairs: conditions ``(M, K)`` and latents of ``target``, of training pictures; M > K.
        condition: ``(N, K)`` of held-out pictures.
        real_features: ``(N, F)``, the judge's features of these pictures.
        target: target expert, frozen.
        judge: gives the features.
        steps: of each training, batches of 256.
        samples: of the flow for every held-out picture, one at least.
        seed: of weights, batches and residuals.
        blocks: of the flow.
        baselines: among ``BASELINES``.

    Raises:
        CourseError: there is no such baseline, or too few pairs for the linear map.
    """
    unknown = [name for name in baselines if name not in BASELINES]
    if unknown:
        raise CourseError(f"there is no baseline {unknown[0]!r}: choose among {', '.join(BASELINES)}.")
    sizes = {"embedding_dim": 64, "hidden_depth": 1, "embedder_depth": 0, "condition_shift": True, "blocks": blocks}
    config = FlowConfig.quick(target.latent_dim, tuple(condition.shape[1:]), **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow, regressors = ConditionalFlow(config), {"MLP": Regressor(config)}
        if "MLP, random start" in baselines:
            regressors["MLP, random start"] = Regressor(config, shift=False)
    flow.fit_shift(pairs.mean.cpu(), pairs.condition.cpu())
    regressors["MLP"].shift.load_state_dict(flow.shift.state_dict())
    linear = deepcopy(flow.shift.linear).to(condition.device)
    methods: list[PairMethod] = [FlowMethod(pairs, flow, 2e-3, 0.05)]
    methods += [RegressorMethod(pairs, regressor, 1e-3, 0.05) for regressor in regressors.values()]
    seconds = sum(_train(method, steps, seed) for method in methods)
    with torch.no_grad():
        many = condition.repeat_interleave(samples, 0)
        drawn = _decode(target, flow.eval().sample(many, 1.0, torch.Generator().manual_seed(seed)))
        answers = {name: _decode(target, network.eval()(condition)) for name, network in regressors.items()}
        if "linear map" in baselines:
            answers["linear map"] = _decode(target, linear(condition))
        if "linear map + noise" in baselines:
            # Random mixtures of the training residuals: Gaussian, and of their covariance, without factorising it.
            left = pairs.latents(seed) - linear(pairs.condition)
            mixture = torch.randn(len(condition), len(left), generator=torch.Generator().manual_seed(seed)).to(left)
            answers["linear map + noise"] = _decode(target, linear(condition) + mixture @ left / len(left) ** 0.5)
    found = judge.features(drawn).view(len(condition), samples, -1)
    frechet = {"flow": frechet_distance(real_features, found[:, 0])}
    frechet |= {name: frechet_distance(real_features, judge.features(one)) for name, one in answers.items()}
    drawn = drawn.view(len(condition), samples, *drawn.shape[1:])
    return Comparison(frechet, diversity(found) if samples > 1 else 0.0, drawn, answers["MLP"], seconds)


def _train(method: PairMethod, steps: int, seed: int) -> float:
    quiet = {"log_every": steps, "checkpoint_every": 0, "preview_every": 0, "progress": False}
    accelerator = method.pairs.mean.device.type
    return train(method, Budget(steps), min(256, method.length), seed=seed, accelerator=accelerator, **quiet).seconds


def _decode(target: Autoencoder, latent: Tensor) -> Tensor:
    return torch.cat([target.decode(part).cpu() for part in latent.split(250)])
