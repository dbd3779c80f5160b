"""The boxes of outlines: polygons and run-length encoded masks."""

from collections.abc import Sequence

from kyolo.data.values import as_number, as_side

MAX_RUNS = 2**24  # of a mask; real ones have a few per column


def outline_box(segmentation: object, size: tuple[int, int]) -> list[float] | None:
    """Return the COCO box (x, y, width, height in pixels) of a COCO `segmentation`.

    Polygons may be a list of flat lists `[[x1, y1, x2, y2, x3, y3], ...]`, one flat list, or a list of points. A mask
    is `{"size": [height, width], "counts": ...}` with counts as a list or compressed to text.

    Args:
        segmentation: anything that a file holds.
        size: (height, width) of the image, which a mask must have.

    Returns:
        The box, or None where there is no outline that can be read, or it has no area.

    Example:
        >>> outline_box([[1, 2, 5, 2, 5, 8]], (20, 40))
        [1, 2, 4, 6]
        >>> outline_box({"size": [3, 2], "counts": [1, 2, 3]}, (3, 2))  # by columns: 0 1 1, 0 0 0
        [0, 1, 1, 2]
    """
    if isinstance(segmentation, dict):
        return _mask_box(segmentation, size)
    if not isinstance(segmentation, list) or not segmentation:
        return None
    if not isinstance(segmentation[0], list):
        segmentation = [segmentation]
    if not all(isinstance(polygon, list) for polygon in segmentation):
        return None
    if all(len(polygon) == 2 for polygon in segmentation):  # points
        segmentation = [[value for point in segmentation for value in point]]
    if any(len(polygon) % 2 for polygon in segmentation):
        return None
    values = [value for polygon in segmentation for value in polygon]
    return points_box(values[0::2], values[1::2])


def points_box(xs: Sequence[object], ys: Sequence[object]) -> list[float] | None:
    """Return the COCO box of the points of an outline, three or more.

    Args:
        xs: pixels; numbers or their texts.
        ys: as many.

    Returns:
        The box, or None where a coordinate is not a number or the points enclose no area.
    """
    columns, rows = ([as_number(value) for value in values] for values in (xs, ys))
    numbers = [[value for value in values if value is not None] for values in (columns, rows)]
    if len(columns) != len(rows) or len(columns) < 3 or [len(values) for values in numbers] != [len(columns)] * 2:
        return None
    return _box(min(numbers[0]), min(numbers[1]), max(numbers[0]), max(numbers[1]))


def _box(x1: float, y1: float, x2: float, y2: float) -> list[float] | None:
    return [x1, y1, x2 - x1, y2 - y1] if x1 < x2 and y1 < y2 else None


def _mask_box(mask: dict, size: tuple[int, int]) -> list[float] | None:
    """Return the box of a run-length encoded mask: runs of 0 and of 1 in turn, column by column."""
    sides, counts = mask.get("size"), mask.get("counts")
    runs = _decompress(counts) if isinstance(counts, str) else counts
    if not isinstance(sides, list) or tuple(map(as_side, sides)) != size or not isinstance(runs, list):
        return None
    height, width = size
    lengths = [as_number(run) for run in runs]
    if not all(isinstance(run, int | float) and run >= 0 and run == int(run) for run in lengths):
        return None
    x1, y1, x2, y2, end = width, height, 0, 0, 0
    for number, length in enumerate(lengths):
        start, end = end, end + int(length or 0)
        if number % 2 and end > start:
            first, last = start // height, (end - 1) // height  # columns
            top, bottom = (start % height, (end - 1) % height + 1) if first == last else (0, height)
            x1, y1, x2, y2 = min(x1, first), min(y1, top), max(x2, last + 1), max(y2, bottom)
    return _box(x1, y1, x2, y2) if end == height * width else None


def _decompress(text: str) -> list[int] | None:
    """Return the runs of COCO's compressed masks, or None where the text is not one.

    A character carries five bits of a number, lowest first, and a sixth that says whether more follow. From the fourth
    run on, a number is the difference to the run two before.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text[:MAX_RUNS]:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 50:
            return None
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            value -= (code & 16) << (shift - 4)  # the sign: the highest bit of the last character
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return None if shift or len(text) > MAX_RUNS else runs
