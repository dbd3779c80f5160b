"""Rows of YOLO label files."""

from kyolo.data.layout import DECIMALS
from kyolo.data.values import as_id, as_number

TOLERANCE = 0.01  # Fractions that leave 0..1 by less are clipped: rounding and rotations make such.


def parse_row(
    row: str, size: tuple[int, int], num_classes: int, keypoints: int | None
) -> tuple[int, list[float]] | str:
    """Return label and COCO box (x, y, width, height in pixels) of a row, or why it is skipped.

    Args:
        row: the text.
        size: (height, width) of the image.
        num_classes: labels are below.
        keypoints: how many numbers of keypoints follow the box; None: rows have none.
    """
    texts = row.split()
    numbers = [number for text in texts if (number := as_number(text)) is not None]
    if len(numbers) < len(texts):
        return "row with text that is no number"
    label, numbers = as_id(texts[0]), numbers[1:]
    if keypoints is not None:
        if len(numbers) != 4 + keypoints:
            return "row that does not fit kpt_shape"
        numbers = numbers[:4]
    if len(numbers) == 5:
        return "row of 6 columns, one more than a box has"
    is_box = len(numbers) == 4
    if not is_box and (len(numbers) < 6 or len(numbers) % 2):
        return "row that has neither 5 columns nor those of a polygon"
    if label is None or not 0 <= label < num_classes:
        return "row of an unknown class"
    if not all(-TOLERANCE <= number <= 1 + TOLERANCE for number in numbers):
        return "row with numbers outside 0..1"
    xs, ys = numbers[0::2], numbers[1::2]
    if is_box:
        (x, width), (y, height) = xs, ys
        box = (x - width / 2, y - height / 2, width, height)
    else:
        box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    pixels = (size[1], size[0], size[1], size[0])
    return label, [round(side * scale, DECIMALS) for side, scale in zip(box, pixels, strict=True)]
