"""Picture outputs of a notebook: their alt texts, and the first one as a thumbnail."""

import base64
import io
from typing import Any

import nbformat

__all__ = ["PICTURE_TYPES", "alt_text", "thumbnail"]

PICTURE_TYPES = ("image/png", "image/jpeg")


def alt_text(output: dict[str, Any], kind: str) -> str | None:
    """The alt text of a picture output: metadata ``{kind: {"alt": …}}``, or ``{"alt": …}`` directly."""
    metadata = output.get("metadata", {})
    text = metadata.get(kind, {}).get("alt") or metadata.get("alt")
    return text.strip() if isinstance(text, str) and text.strip() else None


def thumbnail(node: nbformat.NotebookNode, width: int = 320) -> tuple[bytes, str] | None:
    """The first picture of a notebook, made small, as PNG bytes with its alt text; ``None`` without a picture."""
    from PIL import Image

    for cell in node.cells:
        for output in cell.get("outputs", []):
            for kind in PICTURE_TYPES:
                if kind not in output.get("data", {}):
                    continue
                picture = Image.open(io.BytesIO(base64.b64decode("".join(output["data"][kind])))).convert("RGB")
                picture.thumbnail((width, width * 3 // 4))
                stream = io.BytesIO()
                picture.save(stream, "PNG", optimize=True)
                return stream.getvalue(), alt_text(output, kind) or "first picture of the notebook"
    return None
