"""Runs notebooks headlessly, describes them, stores their outputs and reports on the machine."""

from course_lib.runner.catalog import Notebook, all_notebooks, find_notebooks
from course_lib.runner.session import RunOptions, run_notebooks

__all__ = ["Notebook", "RunOptions", "all_notebooks", "find_notebooks", "run_notebooks"]
