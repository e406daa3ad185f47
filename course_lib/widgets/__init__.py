"""Interactive views: each is a pure render function plus a thin ipywidgets shell around it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "picture_view": ["PictureView", "choice", "slider"],
    },
)
