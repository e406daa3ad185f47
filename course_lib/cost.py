"""What a run costs in time, energy, money and CO2, beside the compute table of the Net2Net paper (its table 2)."""

import os
import time
from dataclasses import dataclass

import torch

__all__ = ["CPU_CORE_WATTS", "EUR_PER_KWH", "KG_CO2_PER_KWH", "PAPER", "Cost", "Stopwatch", "cost_table", "watts"]

EUR_PER_KWH = 0.216
"""Price of electricity that the paper assumes."""
KG_CO2_PER_KWH = 0.296
"""Emissions that the paper assumes."""
CPU_CORE_WATTS = 10.0
"""Assumed power of one busy CPU core with its share of memory and supply: a 250 W server has about 25 of them."""
GPU_WATTS = 600.0
"""Assumed power of a machine with one busy GPU, the paper's figure for its Titan X system."""


@dataclass(frozen=True)
class Cost:
    """One row of the table: ``kilowatts`` drawn for ``hours``."""

    name: str
    hours: float
    kilowatts: float

    @property
    def kwh(self) -> float:
        """Energy in kilowatt-hours."""
        return self.hours * self.kilowatts

    @property
    def eur(self) -> float:
        """Its price in euros."""
        return self.kwh * EUR_PER_KWH

    @property
    def kg_co2(self) -> float:
        """Its emissions in kilograms of CO2."""
        return self.kwh * KG_CO2_PER_KWH


PAPER = (
    Cost("cINN (paper, at most)", 24.0, 0.6),
    Cost("BigGAN (paper)", 15 * 24.0, 3.5),
    Cost("FUNIT (paper)", 14 * 24.0, 3.5),
    Cost("BERT (paper)", 10.3 * 24.0, 3.5),
)
"""Net2Net, table 2: one Titan X system of 0.6 kW, or a DGX-1 of 3.5 kW."""


class Stopwatch:
    """Wall-clock time since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start


def watts(device: str | torch.device = "cpu") -> float:
    """Assumed power of this machine in watts: an estimate from the kind of device, not a measurement."""
    if torch.device(device).type == "cuda":
        return GPU_WATTS
    return CPU_CORE_WATTS * min(torch.get_num_threads(), os.cpu_count() or 1)


def cost_table(seconds: float, device: str | torch.device = "cpu", name: str = "this notebook") -> str:
    """This run beside the paper's compute table, as aligned text that ends with the assumptions.

    Args:
        seconds: wall-clock time of the run.
        device: what it ran on; ``cpu`` counts the threads in use, ``cuda`` one machine with a GPU.
        name: of the row.
    """
    power = watts(device)
    lines = [f"{'':24}{'hours':>12}{'kW':>8}{'kWh':>12}{'EUR':>12}{'kg CO2':>12}"]
    for row in (Cost(name, seconds / 3600, power / 1000), *PAPER):
        lines.append(
            f"{row.name:24}{row.hours:>12.4g}{row.kilowatts:>8.3g}{row.kwh:>12.4g}{row.eur:>12.3g}{row.kg_co2:>12.3g}"
        )
    where = "one GPU machine" if torch.device(device).type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    lines.append(
        f"Assumed: {where} at {power:.0f} W, {EUR_PER_KWH} EUR and {KG_CO2_PER_KWH} kg CO2 per kWh as in the paper. "
        "Nothing here measures power."
    )
    return "\n".join(lines)
