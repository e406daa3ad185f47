"""What a file with released weights is, whether it fits, and which call opens it: by its tensors, nothing is built."""

import hashlib
from pathlib import Path

from ..errors import CourseError
from .reading import State, read_file
from .strict import identify

__all__ = ["describe"]

_HASHES = {
    "a2148cf64807444113fac5eede060d28": "biggan-128.pth",
    "e23db3caa34ac4c4ae922a75258dcb8d": "biggan-256.pth",
    "5c2a6fe765142cbdd9f10f15d65a68b6": "dequantvae-20000.ckpt",
    "db185e0f6791e60d27c00de0f40c376c": "captioning_model_pt16.ckpt",
}
"""MD5 of the files whose hash CompVis/net2net publishes."""
_NOT_OPENED = {
    "lin0.model.1.weight": "LPIPS, a perceptual loss: only the training of an autoencoder needs it",
    "conv2d_1a.conv.weight": "FaceNet, which no released translator uses",
    "main.11.weight": "the patch discriminator of an autoencoder: only its training needs it",
    "embeddings.word_embeddings.weight": "a sentence model: open it with course_lib.experts.SentenceExpert",
}


def describe(path: str | Path) -> str:
    """A report on a file: what it holds, which released model has its sizes, what reading leaves out, what opens it.

    Args:
        path: see :func:`course_lib.released.read_file`.

    Returns:
        A few lines of text.

    Raises:
        CourseError: the file cannot be read, holds no network known here, or one that does not fit its kind exactly;
            the sentence says what it is.
    """
    contents = read_file(path)
    lines, notes, calls = [("file", contents.path.name)], [], {}
    for place, state in contents.parts.items():
        kind, tensors = identify(state)
        if kind is None:
            continue
        config, kept, left = kind.fit(tensors)
        words = [kind.say(config, tensors)] if kind.say else []
        same = [name for name, known in kind.published.items() if known == config]
        words += [f"the sizes of {', '.join(same)}"] if same else []
        what = f"{kind.name} ({', '.join(words)})" if words else kind.name
        count = f"{len(kept)} tensors, {sum(tensor.numel() for tensor in kept.values()):,} numbers"
        lines.append(("tensors" if place in ("", "state_dict") else place, f"{what}: {count}"))
        notes += left
        calls[kind.call] = f'{kind.call}("{contents.path.name}")'
    if not calls:
        raise CourseError(f"{contents.path.name} {_unknown(contents.parts)}")
    lines.append(("fit", "all names and shapes as they should be"))
    with contents.path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    lines += [("hash", _HASHES[digest])] if digest in _HASHES else []
    lines += [] if contents.step is None else [("steps", f"{contents.step:,}")]
    lines += [*(("note", note) for note in notes), *(("open with", call) for call in calls.values())]
    return "\n".join(f"{name + ':':15} {text}" for name, text in lines)


def _unknown(parts: dict[str, State]) -> str:
    names = [name for state in parts.values() for name in state]
    for mark, text in _NOT_OPENED.items():
        if any(name.endswith(mark) for name in names):
            return f"is {text}."
    families = "Net2Net, StyleGAN, Hyper-Modulation, BigGAN, cGANTransfer, ALAE or MindGAN"
    return f"holds no weights that the course knows ({', '.join(names[:3])}, …): give a file of {families}."
