"""What an exercise's cell calls: ``checks.nb02.coupling(my_function)`` prints one line, pass or not yet with a hint.

One module per notebook (``nb00.py`` …) holds its checks. Stubs and solutions stand in the notebooks, where learners see
them; a test holds both against the check.
"""

import importlib
import pkgutil
from types import ModuleType

from course_lib.checks.exercise import CheckResult, Exercise, exercise, passed, require, require_shape

__all__ = ["CheckResult", "Exercise", "exercise", "exercises", "passed", "require", "require_shape"]


def exercises() -> dict[str, Exercise]:
    """Every exercise of the course by its name, such as ``nb02.coupling``."""
    members = [member for name in _modules() for member in vars(importlib.import_module(f"{__name__}.{name}")).values()]
    return {member.name: member for member in members if isinstance(member, Exercise)}


def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__) if module.name.startswith("nb")]


def __getattr__(name: str) -> ModuleType:
    """Load ``checks.nb02`` when it is first used, so that importing the package stays quick."""
    if name in _modules():
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
