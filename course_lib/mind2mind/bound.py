"""The theorem behind Mind2Mind, term by term, on samples.

With W the Wasserstein-1 distance, source data D', target data D, encoder c, decoder g and MindGAN's codes P⁰,

W(D, g#P⁰) ≤ (1 + Lip(g∘c)) · W(D, D') + W(D', (g∘c)#D') + Lip(g) · W(c#D, P⁰),

by four triangle inequalities: from D to D', to its reconstruction, to that of D, to the generated law. Without the
detour over D' it is tighter and needs no source data: W(D, g#P⁰) ≤ W(D, (g∘c)#D) + Lip(g) · W(c#D, P⁰).

Both hold for finite samples exactly if every term uses the same samples, W is solved exactly, and a Lipschitz constant
is the largest ratio between points that a best coupling pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..errors import CourseError

Map = Callable[[Tensor], Tensor]


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean, ``float64 (N, M)``, of flattened points; not through squares, which would lose small distances."""
    return torch.cdist(a.flatten(1).double(), b.flatten(1).double(), compute_mode="donot_use_mm_for_euclid_dist")


def couple(a: Tensor, b: Tensor) -> tuple[float, Tensor]:
    """Exact Wasserstein-1 distance of two samples ``(N, …)`` with Euclidean cost, and the coupling that attains it:
    ``order (N,)``, a[i] goes with b[order[i]]. N = 1,000 takes a second; the cost grows like N³."""
    if len(a) != len(b) or not len(a):
        raise CourseError(f"an assignment needs as many points on both sides, not {len(a)} and {len(b)}.")
    cost = _distances(a, b).cpu().numpy()
    rows, order = linear_sum_assignment(cost)
    return float(cost[rows, order].mean()), torch.from_numpy(order)


def wasserstein(a: Tensor, b: Tensor) -> float:
    """The distance of :func:`couple` alone."""
    return couple(a, b)[0]


def stretch(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], order: Tensor) -> float:
    """The largest ‖f(a) − f(b)‖ / ‖a − b‖ between points ``before``, two times ``(N, …)``, that the coupling ``order``
    pairs, and what a map makes of them, ``after``: a Lipschitz constant for just these points."""
    rows = torch.arange(len(order))
    base, image = (_distances(*points)[rows, order] for points in (before, after))
    return float((image[base > 0] / base[base > 0]).max()) if (base > 0).any() else 0.0


@dataclass(frozen=True)
class Bound:
    """Every term, in Euclidean distance of flattened pictures, and of codes where it says so; Lipschitz constants of
    g∘c, g and c are those between points that are coupled."""

    distance: float  # W(D, g#P⁰), what is bounded
    domain_gap: float  # W(D, D')
    source_error: float  # W(D', (g∘c)#D')
    target_error: float  # W(D, (g∘c)#D), of the tighter version
    latent: float  # W(c#D, P⁰), of codes: what MindGAN minimises
    reencoded: float  # W(c#D, (c∘g)#P⁰), of codes, for the lower bound
    lip_autoencoder: float
    lip_decoder: float
    lip_encoder: float

    @property
    def terms(self) -> dict[str, float]:
        """The three terms of the theorem."""
        gap = (1 + self.lip_autoencoder) * self.domain_gap
        latent = self.lip_decoder * self.latent
        return {"domain gap": gap, "source autoencoder": self.source_error, "latent": latent}

    @property
    def upper(self) -> float:
        """The theorem's right side."""
        return sum(self.terms.values())

    @property
    def tighter(self) -> float:
        """Without the detour over the source."""
        return self.target_error + self.lip_decoder * self.latent

    @property
    def lower(self) -> float:
        """W(c#D, (c∘g)#P⁰) / Lip(c): latent convergence is necessary, too."""
        return self.reencoded / self.lip_encoder

    def check(self) -> None:
        """A CourseError unless all inequalities hold: then a map is no function of its input."""
        allowed = 1 + 1e-6
        if not self.lower <= self.distance * allowed or not self.distance <= min(self.tighter, self.upper) * allowed:
            broken = f"{self.lower:.4g} ≤ {self.distance:.4g} ≤ {self.tighter:.4g}, {self.upper:.4g}"
            raise CourseError(f"the bound is broken ({broken}): both halves must be deterministic, in evaluation mode.")


@torch.no_grad()
def measure_bound(target: Tensor, source: Tensor, codes: Tensor, encode: Map, decode: Map) -> Bound:
    """All terms on held-out target pictures, pictures of the source domain, ``(N, …)``, and generated codes ``(N, D)``,
    with the frozen halves as functions of whole samples."""
    target_codes, drawn = encode(target), decode(codes)
    decoded, decoded_source, drawn_codes = decode(target_codes), decode(encode(source)), encode(drawn)
    distance, to_drawn = couple(target, drawn)
    domain_gap, to_source = couple(target, source)
    latent, to_codes = couple(target_codes, codes)
    return Bound(
        distance=distance,
        domain_gap=domain_gap,
        source_error=wasserstein(source, decoded_source),
        target_error=wasserstein(target, decoded),
        latent=latent,
        reencoded=wasserstein(target_codes, drawn_codes),
        lip_autoencoder=stretch((target, source), (decoded, decoded_source), to_source),
        lip_decoder=stretch((target_codes, codes), (decoded, drawn), to_codes),
        lip_encoder=stretch((target, drawn), (target_codes, drawn_codes), to_drawn),
    )
