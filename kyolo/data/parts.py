"""Val and dev cut off train: on which side an image falls is a function of its file name."""

import hashlib
import re

from kyolo.data.layout import ReadOptions
from kyolo.errors import InputError

NO_IMAGES = (".txt", ".xml")  # Names of annotations whose image is missing.


class Part:
    """Tell which images belong to a part of train: call it with a file name.

    A name is hashed to a number in 0..1. Below `val_fraction` the image is val, within the next `dev_fraction` dev,
    else train, so an image stays on its side when others are added. The exception is a part that would be empty,
    because there are few images: then those with the nearest hashes move, so that every part has one (`settle`).

    Args:
        split: "train", "val" or "dev".
        options: the fractions.

    Raises:
        InputError: the fractions leave nothing for train.
    """

    def __init__(self, split: str, options: ReadOptions):
        self.split = split
        self.options = options
        self._ends = {"val": options.val_fraction, "dev": options.val_fraction + options.dev_fraction, "train": 1.0}
        if self._ends["dev"] >= 1:
            raise InputError(
                f"data.val_fraction + data.dev_fraction: expected a sum below 1, got {self._ends['dev']}. Lower one: "
                f"train needs images."
            )
        fractions = {"val": options.val_fraction, "dev": options.dev_fraction, "train": 1.0}
        self._splits = [split for split, fraction in fractions.items() if fraction]
        self._hashes: dict[str, float] = {}  # of the names that were asked for
        self._moved: dict[str, str] = {}  # splits by name, where the hash does not count

    def __call__(self, file_name: str) -> bool:
        name = re.split(r"[\\/]", file_name)[-1]
        if name not in self._hashes and not name.endswith(NO_IMAGES):
            self._hashes[name] = _hash(name)
        return self._split_of(name) == self.split

    def settle(self) -> bool:
        """Give every part an image, once all names were asked for; return whether any image moved.

        Raises:
            InputError: there are fewer images than parts.
        """
        names = sorted(self._hashes, key=lambda name: (self._hashes[name], name))
        if self._moved or not names or {self._split_of(name) for name in names} == set(self._splits):
            return False
        if len(names) < len(self._splits):
            option = "--val-fraction" if self.options.val_fraction else "data.dev_fraction"
            raise InputError(
                f"{option}: expected at least {len(self._splits)} images to cut off {' and '.join(self._splits[:-1])}, "
                f"got {len(names)}. Add images, or leave {option} out."
            )
        start = 0
        for number, split in enumerate(self._splits):
            rest = len(self._splits) - number - 1
            own = sum(self._hashes[name] < self._ends[split] for name in names)
            end = min(max(own, start + 1), len(names) - rest)
            self._moved |= dict.fromkeys(names[start:end], split)
            start = end
        return True

    def _split_of(self, name: str) -> str:
        number = self._hashes.get(name)
        number = _hash(name) if number is None else number
        return self._moved.get(name) or next(split for split in self._splits if number < self._ends[split])


def _hash(name: str) -> float:
    """Return a number in 0..1 that depends on the name of the file alone, whatever folder it lies in.

    The key makes it another hash than those by which data sets are chosen, as by the smallest sha1 of the names: a part
    by the same hash would be all of such a set, or nothing.
    """
    encoded = name.encode(errors="replace")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=6, key=b"kyolo split").digest(), "big") / 2**48
