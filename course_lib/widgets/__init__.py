"""Interactive views: each is a pure render function plus a thin ipywidgets shell around it."""

from .picture_view import PictureView, choice, slider

__all__ = ["PictureView", "choice", "slider"]
