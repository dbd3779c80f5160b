"""Fonts for labels in any script: the first that has the characters, and their code points where none has."""

import contextlib
import functools
import importlib.util
import itertools
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import ImageFont

from kyolo.errors import InputError

SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
PACKAGES = ("manimgx_fonts", "manimgx_fonts_cjk", "matplotlib")  # which carry fonts: Noto (the extra `fonts`), DejaVu
MAX_FILES = 5000
_BUILT_IN = ""  # Pillow's own font, for Latin
_PROBE = 24  # pixels, at which glyphs are compared
_NO_CHARACTER = "\U0010ffff"  # which Unicode gives no glyph
_STYLES = ("bold", "italic", "oblique", "serif", "mono", "condensed", "math", "display", "black", "light", "thin")
_NO_GLYPHS = ("lastresort", "notdef", "blank")  # fonts with boxes or nothing for every character


def split_by_font(text: str, size: int) -> list[tuple[str, Any]]:
    """Split a text into parts that one font each can draw.

    Args:
        text: one line.
        size: of the letters, in pixels.

    Returns:
        Parts and their fonts, in order. A character that no font has is written as its code point, such as "U+7EA2".

    Raises:
        InputError: $KYOLO_FONT names no font.
    """
    parts: list[tuple[str, str]] = []
    for word, space in _words(text):
        found = [(cluster, _find(cluster)) for cluster in _clusters(word)]
        shown = [(cluster, path) if path is not None else (_escaped(cluster), _BUILT_IN) for cluster, path in found]
        # A space between two words of one font is of that font too: then it lays out both, from right to left perhaps.
        inner = parts[-1][1] if parts and shown and parts[-1][1] == shown[0][1] else _BUILT_IN
        _append(parts, space, inner)
        for number, (part, path) in enumerate(shown):
            separate = number > 0 and None in (found[number][1], found[number - 1][1])
            _append(parts, f" {part}" if separate else part, path)
    return [(part, load_font(path, size)) for part, path in parts]


def _append(parts: list[tuple[str, str]], part: str, path: str) -> None:
    if parts and parts[-1][1] == path:
        parts[-1] = parts[-1][0] + part, path
    elif part:
        parts.append((part, path))


def _words(text: str) -> Iterator[tuple[str, str]]:
    """Yield the words of a text with the space before each."""
    for space, word in re.findall(r"(\s*)(\S*)", text):
        if space or word:
            yield word, space


def missing_characters(text: str) -> str:
    """Return the characters of a text that no font has, each once."""
    return "".join(dict.fromkeys(itertools.chain(*(each for each in _clusters(text) if _find(each) is None))))


def _escaped(cluster: str) -> str:
    return " ".join(f"U+{ord(character):04X}" for character in cluster)


def _clusters(text: str) -> Iterator[str]:
    """Yield characters with the marks and joiners that follow them: they need one font."""
    cluster = ""
    for character in text:
        if cluster and unicodedata.category(character)[0] != "M" and unicodedata.category(character) != "Cf":
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


@functools.lru_cache(maxsize=4096)
def _find(cluster: str) -> str | None:
    """Return the first font with all characters of a cluster; None without one."""
    needed = [character for character in cluster if unicodedata.category(character) != "Cf"]
    for path in _font_files(os.environ.get("KYOLO_FONT", "")):
        if all(_has_glyph(path, character) for character in needed):
            return path
    return None


@functools.lru_cache(maxsize=65536)
def _has_glyph(path: str, character: str) -> bool:
    """Return whether a font draws a character otherwise than one that does not exist."""
    font, missing = _probe(path)
    if font is None:
        return False
    if character.isspace():
        return True
    drawn = _glyph(font, character)
    return drawn is not None and drawn[1] and drawn != missing


@functools.lru_cache(maxsize=512)
def _probe(path: str) -> tuple[Any, Any]:
    """Return a font that does not shape, and what it draws for a character that does not exist; Nones if unreadable."""
    try:
        font = load_font(path, _PROBE)
        font = font.font_variant(layout_engine=ImageFont.Layout.BASIC)
        return font, _glyph(font, _NO_CHARACTER)
    except (OSError, ValueError, SyntaxError):  # no font, or one of bitmaps in other sizes
        return None, None


def _glyph(font: Any, character: str) -> tuple[tuple[int, int], bytes] | None:
    try:
        mask = font.getmask(character, mode="L")
    except (OSError, ValueError):  # a damaged glyph
        return None
    return mask.size, bytes(mask)


@functools.lru_cache(maxsize=512)
def load_font(path: str, size: int) -> Any:
    """Return a font at a size in pixels, upright and of regular weight; "" is Pillow's own."""
    if path == _BUILT_IN:
        return ImageFont.load_default(size=size)
    font = ImageFont.truetype(path, size)
    with contextlib.suppress(OSError, NotImplementedError):  # not variable
        font.set_variation_by_axes([_regular(axis) for axis in font.get_variation_axes()])
    return font


def _regular(axis: dict) -> float:
    is_weight = b"eight" in bytes(axis.get("name") or b"")
    return min(max(400, axis["minimum"]), axis["maximum"]) if is_weight else axis["default"]


@functools.lru_cache(maxsize=8)
def _font_files(chosen: str) -> tuple[str, ...]:
    """Return the fonts in the order in which they are tried: $KYOLO_FONT, Pillow's, those of packages, the system's."""
    own = []
    if chosen:
        own = [chosen] if os.path.isfile(chosen) else _fonts_below(chosen)
        if not own or (own == [chosen] and _probe(chosen)[0] is None):
            raise InputError(f"KYOLO_FONT: expected a font file ({', '.join(SUFFIXES)}) or a folder, got {chosen}.")
    folders = [*_package_folders(), *_system_folders()]
    found = itertools.chain.from_iterable(map(_fonts_below, folders))
    return tuple(dict.fromkeys([*own, _BUILT_IN, *itertools.islice(found, MAX_FILES)]))


def _fonts_below(folder: str) -> list[str]:
    """Return the fonts in a folder and below, plain ones first."""
    files = (os.path.join(root, name) for root, _, names in os.walk(folder) for name in names)
    fonts = [file for file in files if file.lower().endswith(SUFFIXES)]
    fonts = [font for font in fonts if not any(word in os.path.basename(font).lower() for word in _NO_GLYPHS)]
    return sorted(fonts, key=lambda file: (sum(word in os.path.basename(file).lower() for word in _STYLES), file))


def _package_folders() -> Iterator[str]:
    for name in PACKAGES:
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)  # does not import it
            yield from (spec and spec.submodule_search_locations) or ()


def _system_folders() -> list[str]:
    home = os.path.expanduser("~")
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", home)
        return [os.path.join(os.environ.get("WINDIR", r"C:\Windows"), "Fonts"), rf"{local}\Microsoft\Windows\Fonts"]
    if sys.platform == "darwin":
        return ["/System/Library/Fonts", "/Library/Fonts", f"{home}/Library/Fonts"]
    data = os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share"
    shared = (os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")
    return [*(str(Path(each, "fonts")) for each in (data, *shared)), f"{home}/.fonts"]
