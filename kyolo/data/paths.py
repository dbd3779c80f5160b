"""Find the files that a data set names, whatever machine the names were written on."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kyolo.data.layout import split_of
from kyolo.errors import InputError

MAX_PARTS = 64  # Longer paths are cut in front: nobody nests folders deeper.


class Found(NamedTuple):
    """A path that was found.

    Attributes:
        path: the file or folder.
        as_written: whether it lies where the text says; otherwise capitals, backslashes or leading folders differ.
    """

    path: Path
    as_written: bool


class PathFinder:
    """Find files and folders of a data set by the text that another file of the set holds.

    Capital letters do not matter if only one name agrees otherwise. Listings of folders are kept, so a finder lives as
    long as one reading of the set.

    Args:
        folder: the data set.
        allow_outside: whether paths may lead out of the folder.
    """

    def __init__(self, folder: Path, *, allow_outside: bool = False):
        self.folder = Path(os.path.normpath(folder))
        self.allow_outside = allow_outside
        self._listings: dict[Path, dict[str, list[str]]] = {}

    def find(self, text: str, bases: Sequence[Path], *, source: Path) -> Found | None:
        """Return what a text means, or None if there is no such file or folder.

        In this order: the path as written, with slashes for backslashes, and the longest tail of it that exists inside
        the set: `train/images` for `../train/images` and `C:/set/train/images`. Only if none of these is inside the
        set, and for absolute paths with `allow_outside`, the path may lead out of it.

        Args:
            text: the path as the file holds it.
            bases: folders that the path may be relative to, the customary one first.
            source: the file that holds the text, for the error.

        Raises:
            InputError: the text leads to a file or folder outside the set, and `allow_outside` is False.
        """
        slashed = text.replace("\\", "/")
        written = [(base, spelled) for spelled in dict.fromkeys((text, slashed)) for base in bases]
        outside = None
        for base, spelled in written:
            path = Path(os.path.normpath(base / spelled))
            if self._is_inside(path):
                if os.path.exists(path):
                    return Found(path, as_written=spelled == text)
            elif outside is None and os.path.exists(path):
                outside = path
        if outside is not None and self.allow_outside and os.path.isabs(slashed):
            return Found(outside, as_written=True)
        parts = [
            part for part in slashed.split("/") if part not in ("", ".", "..") and not re.fullmatch("[A-Za-z]:", part)
        ]
        for start in range(max(len(parts) - MAX_PARTS, 0), len(parts)):
            for base in bases:
                path = self.match(Path(os.path.normpath(base.joinpath(*parts[start:]))))
                if path is not None and self._same_split(parts, path):
                    return Found(path, as_written=False)
        if outside is not None and not self.allow_outside:
            raise InputError(
                f"{source}: expected paths inside {self.folder}, got {text!r:.300}, which leads out of it. Pass "
                f"--allow-outside if you trust this data set."
            )
        return None if outside is None else Found(outside, as_written=True)

    def find_all(self, texts: Iterable[str], bases: Sequence[Path], *, source: Path) -> dict[str, Found | None]:
        """Return what each text means, as `find` does; texts that only differ in folders which are not there: None.

        `cam1/0.jpg` and `cam2/0.jpg` of another machine cannot both be the set's `0.jpg`.
        """
        found = {text: self.find(text, bases, source=source) for text in dict.fromkeys(texts)}
        guesses = defaultdict(list)
        for text, place in found.items():
            if place is not None and not place.as_written:
                guesses[place.path].append(text)
        taken = {place.path for place in found.values() if place is not None and place.as_written}
        for path, guessed in guesses.items():
            different = {text.replace("\\", "/") for text in guessed}
            if len(different) > 1 or path in taken:
                found.update(dict.fromkeys(guessed))
        return found

    def match(self, path: Path) -> Path | None:
        """Return an existing path inside the set that equals `path` but for capital letters, or None."""
        if not self._is_inside(path):
            return None
        if os.path.exists(path):
            return path
        current = self.folder
        for part in path.relative_to(self.folder).parts:
            names = self._list(current)
            same = names.get(part.lower(), [])
            name = part if part in same else same[0] if len(same) == 1 else None
            if name is None:
                return None
            current /= name
        return current if os.path.exists(current) else None

    def match_file(self, *paths: Path) -> Path | None:
        """Return the first file among `paths`, capital letters aside, or None."""
        return next((found for found in map(self.match, paths) if found is not None and found.is_file()), None)

    def match_folder(self, *paths: Path) -> Path | None:
        """Return the first folder among `paths`, capital letters aside, or None."""
        return next((found for found in map(self.match, paths) if found is not None and found.is_dir()), None)

    def stand_in(self, text: str) -> Path:
        """Return a path inside the set for a text that leads to nothing, so that it is reported as missing."""
        return self.folder.joinpath(*(part for part in re.split(r"[\\/]+", text) if part not in ("", ".", "..")))

    def _same_split(self, parts: Sequence[str], path: Path) -> bool:
        """Return whether a tail still means the split of the whole text: `images` is not `test/images`.

        An image may lie in a folder that holds all splits.
        """
        split, found = split_of(tuple(parts)), split_of(path.relative_to(self.folder).parts)
        return split in (None, found) or (found is None and path.is_file())

    def _is_inside(self, path: Path) -> bool:
        return path.is_relative_to(self.folder) and ".." not in path.relative_to(self.folder).parts

    def _list(self, folder: Path) -> dict[str, list[str]]:
        """Return the names in a folder by their lower case."""
        if folder not in self._listings:
            names = defaultdict(list)
            try:
                for name in os.listdir(folder):
                    names[name.lower()].append(name)
            except OSError:  # No folder, or not readable: nothing is found in it.
                names.clear()
            self._listings[folder] = dict(names)
        return self._listings[folder]


def num_agreeing(entry: str, path: Path) -> int:
    """Return how many trailing parts of a list's entry agree with a path; the entry may lack the suffix.

    Example:
        >>> num_agreeing("D:/set/cam1/0001", Path("images/cam1/0001.jpg"))
        2
    """
    parts = [part.lower() for part in re.split(r"[\\/]+", entry)]
    own = [part.lower() for part in path.parts]
    if parts[-1] not in (own[-1], path.stem.lower()):
        return 0
    pairs = zip(reversed(parts[:-1]), reversed(own[:-1]), strict=False)
    count = 1
    for left, right in pairs:
        if left != right:
            break
        count += 1
    return count
