"""The tables that a benchmark prints, and the same numbers as JSON."""

from typing import Any

from course_lib.bench.rounds import Result

__all__ = ["as_json", "shortfalls", "table"]

# Per parameter and sample: a product is a multiplication and an addition; backward has two products for one forward.
_FLOPS = {"train": 6, "sample": 2}


def table(title: str, results: list[Result], goal: float) -> str:
    """Milliseconds, ratio to ours and share of the machine's peak, one line per contender.

    Args:
        title: heading.
        results: of one task; ours is the one whose library is "ours".
        goal: the ratio to the best peer that is aimed at.

    Returns:
        Text with a last line that says the ratio of the best peer to ours for each batch size.
    """
    batches = list(results[0].seconds)
    ours = _ours(results)
    peak = max(result.gflops for result in results)
    lines = [title, f"{'':20}" + "".join(f"{f'batch {batch}':>30}" for batch in batches)]
    for result in results:
        cells = []
        for batch in batches:
            seconds = result.median(batch)
            share = _FLOPS[result.contender.task] * batch * result.parameters / (seconds * peak * 1e9)
            cells.append(f"{seconds * 1e3:9.1f} ms {seconds / ours.median(batch):5.2f}x {share:5.0%} peak")
        lines.append(f"{result.contender.label:20}" + "".join(f"{cell:>30}" for cell in cells))
    ratios = (f"{best_ratio(results, batch):.2f}x at {batch}" for batch in batches)
    lines.append(f"best peer / course_lib: {', '.join(ratios)} (goal {goal:.1f}x)")
    return "\n".join(lines)


def best_ratio(results: list[Result], batch: int) -> float:
    """Time of the fastest other library over ours."""
    peers = [result for result in results if result.contender.library not in ("ours", "plain")]
    return min(peer.median(batch) for peer in peers) / _ours(results).median(batch)


def shortfalls(results: list[Result], goal: float) -> list[str]:
    """One sentence for each batch size at which the goal is not reached."""
    sentences = []
    ours = _ours(results)
    peak = max(result.gflops for result in results)
    for batch in ours.seconds:
        ratio = best_ratio(results, batch)
        if ratio < goal:
            least = _FLOPS[ours.contender.task] * batch * ours.parameters / (peak * 1e9)
            limit = ratio * ours.median(batch) / least
            sentences.append(
                f"{ours.contender.task} at {batch}: {ratio:.2f}x instead of {goal:.1f}x; nothing but the products, at "
                f"the measured peak, would be {limit:.2f}x."
            )
    return sentences


def as_json(results: list[Result]) -> list[dict[str, Any]]:
    """Medians and all timings in plain values."""
    return [
        {
            "library": result.contender.label,
            "task": result.contender.task,
            "fused_adam": result.contender.fused,
            "parameters": result.parameters,
            "difference_from_ours": result.error,
            "gflops": result.gflops,
            "median_seconds": {batch: result.median(batch) for batch in result.seconds},
            "seconds": result.seconds,
        }
        for result in results
    ]


def _ours(results: list[Result]) -> Result:
    return next(result for result in results if result.contender.library == "ours")
