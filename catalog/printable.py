"""Makes text that somebody else has chosen safe to show: in a log, on a terminal, in an error's one line."""


def printable(text: str) -> str:
    """The text with everything that isn't printable escaped as Python does: line ends, terminal codes, bidi marks."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )
