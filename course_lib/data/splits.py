"""Names of the fixed parts of a set, and the emoji subgroups that are kept from generators."""

__all__ = ["NEW_SUBGROUPS", "SPLITS"]

SPLITS = ("train", "val", "test")
NEW_SUBGROUPS = (
    *("animal-bird", "animal-marine", "arrow", "cat-face", "drink", "face-tongue", "face-unwell", "food-fruit"),
    *("food-sweet", "hand-fingers-closed", "heart", "mail", "musical-instrument", "person-resting", "plant-flower"),
    *("sky-weather", "time", "transport-air", "transport-water", "zodiac"),
)
"""Twenty subgroups that class-conditional generators never see: the new classes of class transfer. Each has relatives
among the other 75, which are the old classes."""
