"""Fonts for names in scripts that the font of a figure lacks."""

import functools
import logging

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

# A family without a bold font is drawn in its regular one; a line for each says no more.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
PLACEHOLDERS = "lastresort"  # fonts that have a box for every character


@functools.cache
def _characters(path: str) -> frozenset[str]:
    """Returns the characters that a font file can draw; none of one that is not usable."""
    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):
        return frozenset()
    scalable = font.scalable and PLACEHOLDERS not in path.lower()
    return frozenset(map(chr, font.get_charmap())) if scalable else frozenset()


def _lacking(text: Text) -> set[str]:
    """Returns the characters of a text that its fonts do not have."""
    families = [FontProperties(family=[name]) for name in text.get_fontfamily()]
    visible = {character for character in text.get_text() if character.isprintable()}
    return visible.difference(*(_characters(font_manager.findfont(x)) for x in families))


def complete_fonts(figure: Figure) -> set[str]:
    """Adds installed fonts to the texts of a figure that need them; returns what none has."""
    texts = [(text, lacking) for text in figure.findobj(Text) if (lacking := _lacking(text))]
    rest = set().union(*(lacking for _, lacking in texts))
    # Matplotlib's own list is kept on disk, and does not know a font that was installed since.
    paths = sorted(font_manager.findSystemFonts()) if rest else []
    families = []
    while rest and paths:
        # The font with most of them; of equals, a regular one.
        best = max(paths, key=lambda path: (len(rest & _characters(path)), "Regular" in path))
        if not rest & _characters(best):
            break
        font_manager.fontManager.addfont(best)
        families.append(FT2Font(best).family_name)
        rest -= _characters(best)
    for text, _ in texts:
        text.set_fontfamily([*text.get_fontfamily(), *families])
    return rest
