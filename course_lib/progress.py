"""Progress bars: shown in a terminal and in a notebook, gone when they are done, silent in logs and headless runs."""

import os
import sys
from typing import Any

__all__ = ["progress_bar"]


def progress_bar(shown: bool = True, **options: Any) -> Any:
    """A tqdm bar that leaves nothing behind.

    Args:
        shown: False never shows it. Otherwise it is shown where somebody watches: in a terminal or a notebook. The
            variable ``TQDM_DISABLE``, which headless runs set, hides it there, too.
        options: of ``tqdm``, such as ``total``, ``desc`` and ``unit``.
    """
    from tqdm.auto import tqdm

    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    # Read here: tqdm's bar for notebooks does not look at the variable.
    hidden = not (shown and watched) or bool(os.environ.get("TQDM_DISABLE"))
    return tqdm(**{"leave": False} | options | {"disable": hidden})
