"""Interactive views: each is a pure render function plus a thin ipywidgets shell around it."""
