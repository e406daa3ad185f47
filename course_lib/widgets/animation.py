"""Pictures in a row as a film: an animated file, and the same as bytes for a widget."""

import io
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..errors import CourseError
from ..figures import png_bytes

__all__ = ["animation_bytes", "save_animation"]

_FORMATS = {".webp": "WEBP", ".gif": "GIF"}


def animation_bytes(frames: Tensor, kind: str = ".webp", rate: float = 25.0, enlarge: int = 3) -> bytes:
    """An animated picture that loops.

    Args:
        frames: ``(F, 3, S, S)`` in [−1, 1], two or more.
        kind: ``.webp`` or ``.gif``.
        rate: frames a second.
        enlarge: whole-number factor, without smoothing.

    Raises:
        CourseError: fewer than two frames, or another kind of file.
    """
    if kind not in _FORMATS:
        raise CourseError(
            f"an animation is saved as {' or '.join(_FORMATS)}, not as {kind or 'a file without suffix'}."
        )
    if len(frames) < 2:
        raise CourseError("an animation needs two frames or more.")
    pictures = [Image.open(io.BytesIO(png_bytes(frame[None], enlarge=enlarge))).convert("RGB") for frame in frames]
    buffer = io.BytesIO()
    options = {"save_all": True, "append_images": pictures[1:], "duration": round(1000 / rate), "loop": 0}
    pictures[0].save(buffer, _FORMATS[kind], **options, **({"quality": 80} if kind == ".webp" else {}))
    return buffer.getvalue()


def save_animation(frames: Tensor, path: Path | str, rate: float = 25.0, enlarge: int = 3) -> Path:
    """Writes :func:`animation_bytes` to ``path``, whose suffix decides the format, and returns the path.

    Raises:
        CourseError: another suffix, too few frames, or the file cannot be written.
    """
    path = Path(path)
    content = animation_bytes(frames, path.suffix.lower(), rate, enlarge)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise CourseError(f"{path} cannot be written ({error.strerror}): choose another folder.") from error
    return path
