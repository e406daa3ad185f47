"""What only maintainers need: the lint of the notebooks, and their first cell."""
