"""Budgets, device, seeds and machine settings: the one place that knows where the course runs.

``COURSE_PROFILE`` (``quick``, ``cpu`` or ``gpu``) is read here and nowhere else.
"""

import os
import platform
import random
import shutil
import sys
from dataclasses import dataclass
from typing import TypeVar

from .errors import CourseError
from .paths import ROOT

__all__ = ["PROFILES", "Profile", "current", "environment_report", "process_environment", "seed_everything", "setup"]

PROFILES = ("quick", "cpu", "gpu")
T = TypeVar("T")


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
        """``cuda`` for the ``gpu`` profile (a missing GPU is an error), else ``cpu``.

        Raises:
            CourseError: the profile asks for a GPU and there is none.
        """
        if self.name != "gpu":
            return "cpu"
        import torch

        if not torch.cuda.is_available():
            raise CourseError("profile gpu needs a CUDA device and none is visible: use the profile cpu or quick.")
        return "cuda"


def current(name: str | None = None) -> Profile:
    """The profile called ``name``, else that of ``COURSE_PROFILE``, else ``gpu`` where there is one, else ``cpu``."""
    name = name or os.environ.get("COURSE_PROFILE")
    if name:
        return Profile(name)
    import torch

    return Profile("gpu" if torch.cuda.is_available() else "cpu")


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch. Library functions take a ``torch.Generator``; this is for layers and dropout."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def setup(profile: str | None = None, seed: int = 0) -> Profile:
    """What the first code cell of every notebook calls: profile, seeds and machine settings.

    Deterministic kernels are asked for, so that the same run on the same machine gives the same bits. Precision is
    never lowered here.
    """
    import torch

    chosen = current(profile)
    seed_everything(seed)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return chosen


def process_environment() -> dict[str, str]:
    """Environment variables that must be set before a process starts; the Makefile, runner and kernels use them.

    By default glibc returns every large block to the system when it is freed and the next training step faults the same
    pages in again. Large thresholds keep gradients and activations in the process. Threads that wait for work sleep
    instead of spinning: on a machine that others use too, spinning costs a small layer up to thirty times its time.
    """
    if platform.system() != "Linux":
        return {}
    # mallopt caps M_MMAP_THRESHOLD at 32 MiB on 64-bit systems but the environment variable is not capped.
    keep = str(4 << 30)
    return {
        "MALLOC_TRIM_THRESHOLD_": keep,
        "MALLOC_MMAP_THRESHOLD_": keep,
        "MALLOC_TOP_PAD_": str(64 << 20),
        "OMP_WAIT_POLICY": "passive",
    }


def environment_report() -> dict[str, str]:
    """What a bug report needs: versions, processor, memory, disk, device and the settings above."""
    import psutil
    import torch

    memory, disk = psutil.virtual_memory(), shutil.disk_usage(ROOT)
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    expected = process_environment()
    kept = all(os.environ.get(name) == value for name, value in expected.items())
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}",
        "memory": f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} free",
        "disk": f"{disk.free / 2**30:.1f} GiB free",
        "gpu": gpu,
        "matrix products": f"float32 precision '{torch.get_float32_matmul_precision()}'",
        "allocator": "keeps large blocks" if kept else "system default (start through `make` or `course` for speed)",
        "profile": current().name,
    }
