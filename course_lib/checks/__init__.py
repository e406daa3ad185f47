"""What an exercise's cell calls: ``checks.nb02.coupling(my_function)`` prints one line, pass or not yet with a hint.
Stubs and solutions stand in the notebooks, where learners see them; a test holds both against the check."""

from importlib import import_module
from types import SimpleNamespace

from course_lib.checks.exercise import Exercise


def exercises() -> dict[str, Exercise]:
    """Every exercise of the course by its name, such as ``nb02.coupling``."""
    modules = [import_module(f"{__name__}.{name}") for name in ("translation", "transfer")]
    return {one.name: one for module in modules for one in vars(module).values() if isinstance(one, Exercise)}


def __getattr__(name: str) -> SimpleNamespace:
    """The exercises of one notebook, as ``nb02``; loaded when first used, so that importing the package stays quick."""
    found = {one.name[5:]: one for one in exercises().values() if name == one.name[:4]} if name[:2] == "nb" else {}
    if not found:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return SimpleNamespace(**found)
