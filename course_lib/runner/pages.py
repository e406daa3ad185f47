"""One HTML page per executed notebook, with the alt texts that nbconvert's default template drops."""

import html
import re
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbconvert.preprocessors import Preprocessor
from traitlets.config import Config

from course_lib.runner.files import read_executed, write_text_atomically
from course_lib.runner.pictures import PICTURE_TYPES, alt_text

__all__ = ["AltText", "write_page"]


class AltText(Preprocessor):
    """Puts each picture output into the page as ``<img alt=…>`` and lets links between notebooks lead to pages.

    The lab template knows size but no alt text; an HTML output goes through it unchanged.
    """

    def preprocess_cell(self, cell, resources, index):
        """Rewrite one cell."""
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\]\((?:\./)?([\w-]+)\.ipynb(#[^)]*)?\)", r"](\1.html\2)", cell.source)
        for output in cell.get("outputs", []):
            kind = next((kind for kind in PICTURE_TYPES if kind in output.get("data", {})), None)
            alt = alt_text(output, kind) if kind else None
            if alt and "text/html" not in output["data"]:
                data = "".join(output["data"][kind]).replace("\n", "")
                tag = f'<img src="data:{kind};base64,{data}" alt="{html.escape(alt)}" style="max-width:100%">'
                output["data"] = nbformat.from_dict({"text/html": tag})
        return cell, resources


def write_page(notebook: Path, title: str, links_from: Path) -> Path | None:
    """Write the page beside an executed notebook.

    Args:
        notebook: the executed copy; nothing is written when there is none (the run ended before).
        title: of the page.
        links_from: folder in which the notebook's relative picture links hold.
    """
    node = read_executed(notebook)
    if node is None:
        return None
    config = Config()
    config.HTMLExporter.preprocessors = [AltText]
    config.HTMLExporter.embed_images = True
    config.HTMLExporter.language_code = "en"
    resources = {"metadata": {"name": title, "path": str(links_from)}}
    body, _ = HTMLExporter(config=config).from_notebook_node(node, resources)
    page = notebook.with_suffix(".html")
    write_text_atomically(page, body)
    return page
