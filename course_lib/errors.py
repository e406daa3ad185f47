"""The one exception a learner should ever read."""

__all__ = ["CourseError"]


class CourseError(Exception):
    """Bad input. The message is one sentence that says what is wrong and what to do about it.

    The ``course`` command prints it without a traceback and exits with status 2.
    """
