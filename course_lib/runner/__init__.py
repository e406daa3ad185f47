"""Runs notebooks headlessly, describes them, stores their outputs and reports on the machine."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "catalog": ["Notebook", "all_notebooks", "find_notebooks"],
        "session": ["run_notebooks"],
    },
)
