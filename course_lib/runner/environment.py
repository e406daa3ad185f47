"""The environment that kernels and training start in.

The C library reads its allocator settings when a process starts, so they cannot be set from inside: the runner hands
them to its kernels, the Makefile puts them in front of a command, and ``course train`` starts itself again with them.
"""

import os
import sys

__all__ = ["default_cell_timeout", "kernel_environment", "restart_with_settings"]

_MARK = "COURSE_ENVIRONMENT_SET"
_CELL_TIMEOUT = {"quick": 600, "cpu": 6 * 3600, "gpu": 2 * 3600}


def default_cell_timeout(profile: str) -> int:
    """Seconds one cell may take: a laptop evening is longer than a GPU's hour."""
    return _CELL_TIMEOUT.get(profile, 600)


def kernel_environment(profile: str, jobs: int = 1) -> dict[str, str]:
    """The whole environment of a headless kernel.

    Args:
        profile: ``quick``, ``cpu`` or ``gpu``.
        jobs: how many kernels share the machine's cores.
    """
    from course_lib.profiles import process_environment

    environment = {**process_environment(), **os.environ}
    environment.update(
        COURSE_PROFILE=profile,
        TQDM_DISABLE="1",  # a plain progress bar writes its timing to stderr, which no stored output can match
        JUPYTER_PREFER_ENV_PATH="1",  # the kernel of this environment, not one a user once registered
        PYDEVD_DISABLE_FILE_VALIDATION="1",  # keeps a debugger's warning out of the outputs
    )
    if jobs > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    return environment


def restart_with_settings() -> None:
    """Replace this process by itself with the settings in place; does nothing the second time."""
    from course_lib.profiles import process_environment

    missing = {name: value for name, value in process_environment().items() if name not in os.environ}
    if missing and _MARK not in os.environ:
        environment = {**os.environ, **missing, _MARK: "1"}
        os.execve(sys.executable, [sys.executable, "-m", "course_lib.cli", *sys.argv[1:]], environment)
