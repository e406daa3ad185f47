"""Sphinx settings of the course's web pages; docs/sphinx/build.py prepares the sources and calls Sphinx.

Pages work without a network: formulas are MathML, which browsers draw, and fonts and scripts lie beside the pages.
"""

import os
import re

from docutils import nodes
from latex2mathml.converter import convert

repository = os.environ["COURSE_REPOSITORY"]

project = "Reusing trained generative networks"
author = copyright = "The course authors"
root_doc = "index"
extensions = ["myst_nb"]
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # a level may be left out where a page goes on in a list

html_theme = "sphinx_book_theme"
html_title = project
html_static_path = [os.environ["COURSE_PICTURES"], "static"]
html_css_files = ["course.css"]
html_math_renderer = "mathml"
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_theme_options = {
    "repository_url": repository,
    "use_repository_button": True,
    "use_download_button": False,
    "path_to_docs": "",
    "launch_buttons": {"colab_url": "https://colab.research.google.com", "binderhub_url": "https://mybinder.org"},
    "navbar_persistent": [],  # the sidebar has a search field already
    "show_navbar_depth": 1,
    "show_toc_level": 2,
}


def _formula(tex: str, display: str = "inline") -> str:
    """MathML, with the thin space that belongs behind the name of a function."""
    return re.sub(
        "<mi>(log|exp|det|dim|min|max|arg|sinh?|cosh?|tanh?)</mi>",
        r'<mrow><mi>\1</mi><mspace width="0.17em"/></mrow>',
        convert(tex, display=display),
    )


def _inline(self, node: nodes.math) -> None:
    self.body.append(_formula(node.astext()))
    raise nodes.SkipNode


def _block(self, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{_formula(node.astext(), "block")}</div>')
    raise nodes.SkipNode


def setup(app: object) -> dict[str, bool]:
    """Draw formulas as MathML."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
