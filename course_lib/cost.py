"""What a run costs in time, energy, money and CO2, beside the compute table of the Net2Net paper (its table 2)."""

import os
import time

import torch

__all__ = ["PAPER", "Stopwatch", "cost_table", "energy_cost", "watts"]

EUR_PER_KWH, KG_CO2_PER_KWH = 0.216, 0.296
"""Price and emissions of electricity that the paper assumes."""
CPU_CORE_WATTS, GPU_WATTS = 10.0, 600.0
"""Assumed power of one busy CPU core with its share of memory and supply (a 250 W server has about 25 of them), and of
a machine with one busy GPU, the paper's figure for its Titan X system."""
PAPER = {
    "cINN (paper, at most)": (24.0, 0.6),
    "BigGAN (paper)": (15 * 24.0, 3.5),
    "FUNIT (paper)": (14 * 24.0, 3.5),
    "BERT (paper)": (10.3 * 24.0, 3.5),
}
"""Hours and kilowatts: one Titan X system of 0.6 kW, or a DGX-1 of 3.5 kW."""


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


def energy_cost(hours: float, kilowatts: float) -> tuple[float, float, float]:
    """Kilowatt-hours, euros and kilograms of CO2."""
    return hours * kilowatts, hours * kilowatts * EUR_PER_KWH, hours * kilowatts * KG_CO2_PER_KWH


def cost_table(seconds: float, device: str | torch.device = "cpu", name: str = "this notebook") -> str:
    """A run of so many wall-clock seconds beside the paper's table, as aligned text that ends with the assumptions."""
    power = watts(device)
    lines = [f"{'':24}{'hours':>12}{'kW':>8}{'kWh':>12}{'EUR':>12}{'kg CO2':>12}"]
    for row, (hours, kilowatts) in {name: (seconds / 3600, power / 1000), **PAPER}.items():
        kwh, eur, co2 = energy_cost(hours, kilowatts)
        lines.append(f"{row:24}{hours:>12.4g}{kilowatts:>8.3g}{kwh:>12.4g}{eur:>12.3g}{co2:>12.3g}")
    where = "one GPU machine" if torch.device(device).type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    lines.append(
        f"Assumed: {where} at {power:.0f} W, {EUR_PER_KWH} EUR and {KG_CO2_PER_KWH} kg CO2 per kWh as in the paper. "
        "Nothing here measures power."
    )
    return "\n".join(lines)
