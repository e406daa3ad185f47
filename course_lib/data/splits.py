"""Fixed splits: of pictures by base emoji, so that no relative of a training picture is held out, and of classes."""

import hashlib
from collections import defaultdict

__all__ = ["NEW_SUBGROUPS", "SPLITS", "assign_splits"]

SPLITS = ("train", "val", "test")
NEW_SUBGROUPS = (
    *("animal-bird", "animal-marine", "arrow", "cat-face", "drink", "face-tongue", "face-unwell", "food-fruit"),
    *("food-sweet", "hand-fingers-closed", "heart", "mail", "musical-instrument", "person-resting", "plant-flower"),
    *("sky-weather", "time", "transport-air", "transport-water", "zodiac"),
)
"""Twenty subgroups that class-conditional generators never see: the new classes of class transfer. Each has relatives
among the other 75, which are the old classes."""


def assign_splits(table: list[dict]) -> None:
    """Writes ``row["split"]`` in place: 80 % train, 10 % val, 10 % test of the bases of every subgroup.

    The order of bases inside a subgroup is that of their SHA-256, which no one can tune. Subgroups take turns at where
    their tens begin, so that small ones are held out as often as large ones.
    """
    bases: dict[str, set[str]] = defaultdict(set)
    owner: dict[str, str] = {}
    for row in table:
        # A base may cross subgroups (`man: beard`, `person`); its first subgroup owns it.
        owner.setdefault(row["base"], row["subgroup"])
        bases[owner[row["base"]]].add(row["base"])
    split_of, position = {}, 0
    for subgroup in sorted(bases):
        for base in sorted(bases[subgroup], key=lambda text: hashlib.sha256(text.encode()).hexdigest()):
            split_of[base] = {3: "val", 8: "test"}.get(position % 10, "train")
            position += 1
    for row in table:
        row["split"] = split_of[row["base"]]
