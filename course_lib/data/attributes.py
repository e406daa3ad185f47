"""Attributes that Unicode writes into the code points of an emoji: skin tone, gender, age, hair.

Source: Unicode Technical Standard 51 (emoji modifiers, gender and hair sequences).
"""

__all__ = ["ATTRIBUTES"]

ATTRIBUTES = {
    "skin_tone": ("none", "light", "medium-light", "medium", "medium-dark", "dark", "mixed"),
    "gender": ("none", "woman", "man"),
    "age": ("none", "child", "adult", "old"),
    "hair": ("none", "blond", "red", "curly", "white", "bald", "beard"),
}
