"""Where things are and where results go, whatever folder a kernel started in; budgets, device, seeds, machine settings
and costs. The only place that reads ``COURSE_PROFILE``."""

import itertools
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from .errors import CourseError, explain


def _root() -> Path:
    """The repository: ``COURSE_HOME``, or the folder above the package."""
    named = os.environ.get("COURSE_HOME")
    root = Path(named).expanduser().absolute() if named else Path(__file__).resolve().parent.parent
    if all((root / name).is_dir() for name in ("checkpoints", "data", "notebooks")):
        return root
    missing = f"COURSE_HOME={named} is not" if named else "the package was installed without"
    advice = "clone it (README, Start) and set COURSE_HOME to its folder"
    raise CourseError(f"{missing} the course's repository, which holds notebooks, weights and data: {advice}.")


ROOT = _root()
DATA = ROOT / "data"
CHECKPOINTS = ROOT / "checkpoints"
NOTEBOOKS = ROOT / "notebooks"
RUNS = Path(os.environ.get("COURSE_RUNS") or ROOT / "runs").expanduser().absolute()
"""Folder of everything that runs leave; the environment variable ``COURSE_RUNS`` puts it elsewhere."""


def ensure_writable(folder: Path) -> Path:
    """``folder``, after a file has been written into it, or where it is to be made, and removed again."""
    place = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=place, buffering=0) as file:
            file.write(b"course")
    except OSError as error:
        error.filename = folder
        raise CourseError(f"nothing can be written to {explain(error)}.") from error
    return folder


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(f"the folder {folder} cannot be made: {explain(error)}.") from error
    return folder


def cache_dir() -> Path:
    """Folder for files that can be rebuilt at any time (decoded images); ``COURSE_CACHE`` puts it elsewhere."""
    return _made(Path(os.environ.get("COURSE_CACHE") or ROOT / ".cache").expanduser())


def new_folder(parent: Path, name: str) -> Path:
    """A new folder ``parent/name``, with a number behind it where that exists: results replace nothing."""
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise CourseError(f"results cannot be written to {explain(error)}.") from error
        return folder


def new_run_folder(runs: Path, suffix: str = "") -> Path:
    """A new folder in ``runs`` that is named by date and time."""
    return new_folder(runs, datetime.now().strftime("%Y%m%d-%H%M%S") + suffix)


_lab_folder = cache(lambda: new_run_folder(RUNS, "-lab"))


def run_folder() -> Path:
    """Folder of the run that a notebook belongs to; in JupyterLab each kernel gets one when it first asks."""
    headless = os.environ.get("COURSE_RUN_FOLDER")
    return _made(Path(headless)) if headless else _lab_folder()


PROFILES = ("quick", "cpu", "gpu")
T = TypeVar("T")
_SIZE = 384  # of the matrices that are multiplied to measure speed: below a millisecond on one core


@dataclass(frozen=True)
class Profile:
    """How much to do: ``quick`` for a check on two cores, ``cpu`` for a laptop's evening, ``gpu`` for everything."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in PROFILES:
            raise CourseError(f"there is no profile {self.name!r}: set COURSE_PROFILE to one of {', '.join(PROFILES)}.")

    def pick(self, quick: T, cpu: T, gpu: T) -> T:
        """The value for this profile: ``steps = profile.pick(quick=200, cpu=4000, gpu=40000)``."""
        return {"quick": quick, "cpu": cpu, "gpu": gpu}[self.name]

    @property
    def device(self) -> str:
        """``cuda`` for the ``gpu`` profile, where a missing GPU is a ``CourseError``; else ``cpu``."""
        if self.name != "gpu":
            return "cpu"
        import torch

        if not torch.cuda.is_available():
            raise CourseError("profile gpu needs a CUDA device and none is visible: use the profile cpu or quick.")
        return "cuda"


def current(name: str | None = None) -> Profile:
    """The profile called ``name``, else that of ``COURSE_PROFILE``, else ``quick``: more only when it is asked for."""
    return Profile(name or os.environ.get("COURSE_PROFILE") or "quick")


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch. Library functions take a ``torch.Generator``; this is for layers and dropout."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def setup(profile: str | None = None, seed: int = 0) -> Profile:
    """What the first code cell of every notebook calls: profile, seeds, deterministic kernels, on the CPU the faster
    library for matrix products *at full float32 accuracy*, see :func:`matmul_precision`."""
    import torch

    chosen = current(profile)
    seed_everything(seed)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.set_float32_matmul_precision("highest" if chosen.name == "gpu" else matmul_precision())
    return chosen


class Products(NamedTuple):
    """Of matrix products in float32: relative Frobenius error (rounding alone gives about 3e-7), fastest seconds."""

    error: float
    seconds: float


@cache
def measure_products() -> dict[str, Products]:
    """Accuracy and speed of one CPU product under torch's settings ``highest`` and ``medium``, measured once, in 20 ms;
    the setting in force and all random states stay as they were."""
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(_SIZE, _SIZE, generator=generator) for _ in range(2))
    exact, found = a.double() @ b.double(), dict.fromkeys(("highest", "medium"), Products(0.0, float("inf")))
    before = torch.get_float32_matmul_precision()
    for setting in list(found) * 5:  # in turn, so that another program's load meets both
        torch.set_float32_matmul_precision(setting)
        start = time.perf_counter()
        product = a @ b
        seconds = time.perf_counter() - start
        if seconds < found[setting].seconds:
            found[setting] = Products(((product - exact).norm() / exact.norm()).item(), seconds)
    torch.set_float32_matmul_precision(before)
    return found


def matmul_precision() -> str:
    """``highest`` or ``medium``: the faster of torch's settings for float32 products whose result is as exact. By
    default torch multiplies with MKL, which leaves the wide vector units of AMD processors idle; ``medium`` selects
    oneDNN, which is as exact there, but rounds to 8 bits where a processor has bfloat16 units."""
    default, other = measure_products().values()
    # The margin of 20 % keeps the choice the same from run to run.
    faster = other.error <= 4 * default.error and other.seconds <= 0.8 * default.seconds
    return "medium" if faster else "highest"


def process_environment() -> dict[str, str]:
    """Environment variables that must be set before a process starts; the Makefile, runner and kernels use them."""
    if platform.system() != "Linux":
        return {}
    # By default glibc gives large blocks back when they are freed, and the next training step faults the same pages in
    # again. mallopt would cap the second threshold at 32 MiB, the environment variable is not capped.
    found = {"MALLOC_TRIM_THRESHOLD_": 4 << 30, "MALLOC_MMAP_THRESHOLD_": 4 << 30, "MALLOC_TOP_PAD_": 64 << 20}
    # A step is slower if waiting threads sleep at once, much slower beside another process if they spin for long.
    return {name: str(value) for name, value in (found | {"GOMP_SPINCOUNT": 1000}).items()}


def environment_report() -> dict[str, str]:
    """What a bug report needs: versions, processor, memory, disk, device and the settings above."""
    import psutil
    import torch

    memory, disk = psutil.virtual_memory(), shutil.disk_usage(ROOT)
    kept = process_environment().items() <= os.environ.items()
    speed = {setting: f"{2e-9 * _SIZE**3 / one.seconds:.0f} GFLOP/s" for setting, one in measure_products().items()}
    products = ", ".join(f"'{name}' {speed[name]}, error {one.error:.0e}" for name, one in measure_products().items())
    units = torch.backends.cpu.get_cpu_capability()
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {units}",
        "memory": f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} free",
        "disk": f"{disk.free / 2**30:.1f} GiB free",
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none",
        "matrix products": f"float32 setting '{matmul_precision()}' on the CPU ({products})",
        "allocator": "keeps large blocks" if kept else "system default (start through `make` or `course` for speed)",
        "profile": current().name,
    }


# --- what a run costs, beside the compute table of the Net2Net paper (its table 2) ------------------------------------

EUR_PER_KWH, KG_CO2_PER_KWH = 0.216, 0.296  # as the paper assumes
CPU_CORE_WATTS, GPU_WATTS = 10.0, 600.0
"""Assumed power of one busy CPU core (a 250 W server has about 25), and of a machine with one busy GPU (the paper)."""
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
        return time.perf_counter() - self.start


def cost_table(seconds: float, device: Any = "cpu") -> str:
    """A run of so many wall-clock seconds beside the paper's table, as aligned text that ends with the assumptions; the
    power is an estimate from the kind of device."""
    import torch

    where, power = "one GPU machine", GPU_WATTS
    if torch.device(device).type != "cuda":
        where = f"{torch.get_num_threads()} CPU threads"
        power = CPU_CORE_WATTS * min(torch.get_num_threads(), os.cpu_count() or 1)
    lines = [f"{'':24}{'hours':>12}{'kW':>8}{'kWh':>12}{'EUR':>12}{'kg CO2':>12}"]
    for row, (hours, kilowatts) in {"this notebook": (seconds / 3600, power / 1000), **PAPER}.items():
        kwh = hours * kilowatts
        line = f"{row:24}{hours:>12.4g}{kilowatts:>8.3g}{kwh:>12.4g}"
        lines.append(f"{line}{kwh * EUR_PER_KWH:>12.3g}{kwh * KG_CO2_PER_KWH:>12.3g}")
    rates = f"{EUR_PER_KWH} EUR and {KG_CO2_PER_KWH} kg CO2 per kWh as in the paper"
    lines.append(f"Assumed: {where} at {power:.0f} W, {rates}. Nothing here measures power.")
    return "\n".join(lines)
