"""Answers "does the course work on this machine?": for each problem one line on what to do."""

import shutil

from course_lib import profiles
from course_lib.errors import CourseError

MIN_DISK_GIB, MIN_MEMORY_GIB = 2.0, 4.0


def examine() -> dict[str, str]:
    """Problems by topic, each with its remedy; empty when all is well."""
    from course_lib.data.avatars import check_recipe

    checks = {
        "data": check_recipe,
        "checkpoints": _checkpoints,
        "results": lambda: profiles.ensure_writable(profiles.RUNS),
        "cache": lambda: profiles.ensure_writable(profiles.cache_dir()),
        "disk": _disk,
        "memory": _memory,
        "gpu": _gpu,
    }
    problems = {}
    for topic, check in checks.items():
        try:
            check()
        except Exception as error:  # a check that breaks is a finding too; a CourseError says itself what to do
            problems[topic] = str(error) if isinstance(error, CourseError) else f"{type(error).__name__}: {error}"
    return problems


def _checkpoints() -> None:
    from safetensors import SafetensorError, safe_open

    place, bad = profiles.CHECKPOINTS, []
    files = sorted(place.rglob("*.safetensors"))
    if not files:
        raise CourseError(f"no weights in {place}: restore them with 'git checkout checkpoints' or use 'make train'")
    for file in files:
        try:
            safe_open(file, framework="pt")  # reads the header, and compares it with the length of the file
        except (SafetensorError, OSError) as error:
            bad.append(f"{file.name} ({error})")
    if bad:
        raise CourseError(f"unreadable: {', '.join(bad)}; restore with 'git checkout checkpoints'")


def _disk() -> None:
    place = profiles.RUNS if profiles.RUNS.is_dir() else profiles.ROOT
    if (free := shutil.disk_usage(place).free / 2**30) < MIN_DISK_GIB:
        raise CourseError(f"{free:.1f} GiB free, a run may need {MIN_DISK_GIB:.0f}: delete old folders in {place}")


def _memory() -> None:
    import psutil

    if (available := psutil.virtual_memory().available / 2**30) < MIN_MEMORY_GIB:
        raise CourseError(f"{available:.1f} GiB free, a notebook may take {MIN_MEMORY_GIB:.0f}: close other programs")


def _gpu() -> None:
    """A missing GPU is no problem; one that is there and cannot multiply is."""
    import torch

    try:
        if torch.cuda.is_available():
            torch.ones(8, 8, device="cuda").mm(torch.ones(8, 8, device="cuda")).sum().item()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise CourseError(f"visible but not usable ({reason}): update its driver, or set COURSE_PROFILE=cpu") from None
