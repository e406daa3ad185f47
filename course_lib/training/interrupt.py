"""Stopping a run by hand without cutting an optimiser step in half."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["interruptible"]


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turns the first interrupt into a flag that the loop reads between steps; the second one raises as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handler(signum: int, frame: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield event
    finally:
        # None stands for a handler that was not installed from Python and cannot be put back from here.
        signal.signal(signal.SIGINT, signal.default_int_handler if previous is None else previous)
