"""Speed of our flow beside four other libraries; ``python -m course_lib.bench`` runs it.

The other libraries are the optional dependency group ``bench`` and are imported by ``peers`` alone.
"""
