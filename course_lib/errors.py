"""What somebody reads while the package works: one exception, advice on files that fail, and progress bars."""

import errno
import os
import sys
from typing import Any


class CourseError(Exception):
    """Bad input: one sentence that says what is wrong and what to do. ``course`` prints it alone, with status 2."""


_ELSEWHERE = "make it writable, or set COURSE_RUNS (results) or COURSE_CACHE (rebuildable files) to another folder"
_ADVICE = {
    errno.ENOSPC: "no space left on the disk: free some and run again",
    errno.EDQUOT: "your disk quota is used up: free some space and run again",
    errno.EFBIG: "the file would exceed the largest size allowed here: raise the limit (ulimit -f)",
    errno.EROFS: f"the place is read-only: {_ELSEWHERE}",
    errno.EACCES: f"permission denied: {_ELSEWHERE}",
    errno.EPERM: f"the operation is not permitted: {_ELSEWHERE}",
    errno.ENOENT: "no such file or folder: check the path",
    errno.ENOTDIR: "a file stands where a folder is needed: give another path, or move the file",
    errno.EISDIR: "it is a folder: give the path of a file",
    errno.EEXIST: "it exists already: give another path, or move it",
    errno.ENAMETOOLONG: "the name is too long: give a shorter path",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n), or use fewer jobs",
    errno.ENOMEM: "there is too little memory: close other programs",
    errno.EIO: "the disk does not answer (input/output error): check it, or use another",
}


def explain(error: OSError) -> str:
    """An operating system's error as one line: which file, what is wrong, and what to do."""
    what = _ADVICE.get(error.errno) or " ".join((error.strerror or str(error) or type(error).__name__).split())
    return f"{error.filename}: {what}" if error.filename is not None else what


def progress_bar(shown: bool = True, **options: Any) -> Any:
    """A tqdm bar that leaves nothing behind, with the ``options`` of ``tqdm``, where somebody watches, in a terminal or
    a notebook, unless ``shown`` is False or headless runs have set ``TQDM_DISABLE``."""
    from tqdm.auto import tqdm

    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    # Read here: tqdm's bar for notebooks does not look at the variable.
    hidden = not (shown and watched) or bool(os.environ.get("TQDM_DISABLE"))
    return tqdm(**{"leave": False} | options | {"disable": hidden})
