"""The verdict on an answer, and how a check arrives at it."""

from dataclasses import dataclass

__all__ = ["CheckResult", "NotYet", "passed", "require"]


@dataclass(frozen=True)
class CheckResult:
    """Whether an answer is right, what to say, and for a wrong one a hint."""

    passed: bool
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        line = f"{'pass' if self.passed else 'not yet'}: {self.message}"
        hint = f" · hint: {self.hint}" if self.hint and not self.passed else ""
        return " ".join((line + hint).split())

    def _ipython_display_(self) -> None:
        """Show nothing: the check has printed its line, and a cell that ends in the call would show it twice."""


class NotYet(Exception):
    """Raised by :func:`require`; carries the result."""

    def __init__(self, result: CheckResult) -> None:
        super().__init__(result.message)
        self.result = result


def require(condition: object, message: str, hint: str | None = None) -> None:
    """End the check with "not yet" unless the condition holds.

    Args:
        condition: what a right answer makes true.
        message: what is wrong, seen from the learner's side.
        hint: where to look.
    """
    if not bool(condition):
        raise NotYet(CheckResult(False, message, hint))


def passed(message: str) -> CheckResult:
    """What a check returns at its end; the message says which property was shown."""
    return CheckResult(True, message)
