"""A training step of a whole GAN against one of MindGAN, by picture size."""

import argparse
from typing import Any

from course_lib.recipes.mind2mind import measure_step

__all__ = ["main", "table"]


def table(found: dict[int, dict[str, float]]) -> str:
    """One line a size: milliseconds of a step, ratios of measured times, ratio of counted operations."""
    columns = ("pixels", "batch", "whole fp32", "whole bf16", "MindGAN", "ratio", "a picture", "operations")
    lines = ["".join(f"{column:>12}" for column in columns)]
    for size, row in found.items():
        times = (row[name] * 1e3 for name in ("whole, float32", "whole, bfloat16", "MindGAN"))
        ratios = (row["ratio a step"], row["ratio a picture"], row["whole: operations"] / row["MindGAN: operations"])
        cells = [f"{size}", f"{row['batch']:.0f}", *(f"{t:,.1f} ms" for t in times), *(f"{r:,.0f}x" for r in ratios)]
        lines.append("".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def main(chosen: argparse.Namespace) -> dict[str, Any]:
    """Prints the table and returns the numbers."""
    # Large pictures take long and vary little.
    found = {size: measure_step(size, min(chosen.rounds, 3) if size < 512 else 1) for size in chosen.sizes}
    print("One training step: a whole ALAE of the published shapes against MindGAN with as many codes.")
    print("A picture: against MindGAN at its published batch of 128. Operations: counted, a picture.")
    print("Random weights; the optimisers are not in it.\n" + table(found), flush=True)
    return {str(size): row for size, row in found.items()}
