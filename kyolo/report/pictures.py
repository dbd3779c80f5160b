"""Pictures with the detections drawn in."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from kyolo.report.fonts import split_by_font

# Colours that people with any common colour blindness tell apart (Okabe and Ito, 2008), without black; the text on a
# colour is black or white, whichever stands out.
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


def draw_detections(image: np.ndarray, detections: Mapping[str, Any], class_names: Sequence[str]) -> np.ndarray:
    """Draw boxes with name and score; lines and letters grow with the image.

    Names may be in any script that Pillow's font, an installed font or $KYOLO_FONT has; other characters are drawn as
    code points, such as U+7EA2. `pip install "kyolo-tf[fonts]"` installs Noto fonts for nearly all scripts.

    Args:
        image: (H, W, 3) uint8, RGB.
        detections: boxes (n, 4) xyxy pixels, labels (n,), and scores (n,) unless there are none (ground truth).
        class_names: name of each label.

    Returns:
        (H, W, 3) uint8, a new image.

    Example:
        >>> found = {"boxes": [[8, 8, 50, 60]], "scores": [0.9], "labels": [0]}
        >>> draw_detections(image, found, ["cell"]).shape
        (64, 64, 3)
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    unit = max(1, round(max(picture.size) / 400))  # line width, pixels
    size = max(10, 7 * unit)  # of the letters, pixels
    scores = detections.get("scores", [None] * len(detections["boxes"]))
    # The best one last, so that it lies on top.
    for box, score, label in reversed(list(zip(detections["boxes"], scores, detections["labels"], strict=True))):
        colour = PALETTE[int(label) % len(PALETTE)]
        text = class_names[int(label)] if score is None else f"{class_names[int(label)]} {score:.2f}"
        draw.rectangle([float(side) for side in box], outline=colour, width=unit)
        _draw_label(draw, text, box, colour, size)
    return np.asarray(picture)


def _draw_label(draw: ImageDraw.ImageDraw, text: str, box: Sequence[float], colour: tuple, size: int) -> None:
    """Write on the box's upper edge, or where the picture ends there, as near to it as the picture allows."""
    parts = split_by_font(text, size)
    starts = [0.0, *itertools.accumulate(font.getlength(part) for part, font in parts)]
    # On one base line ("ls"), as fonts differ in height.
    sides = [
        draw.textbbox((x, 0), part, font=font, anchor="ls") for x, (part, font) in zip(starts, parts, strict=False)
    ]
    left, top = (min(each) for each in list(zip(*sides, strict=True))[:2])
    right, bottom = (max(each) for each in list(zip(*sides, strict=True))[2:])
    padding = max(1, round(size / 6))
    width, height = right - left + 2 * padding, bottom - top + 2 * padding
    picture_width, picture_height = draw.im.size  # of the picture that it draws in
    x = min(max(float(box[0]), 0.0), max(picture_width - width, 0.0))
    y = min(max(float(box[1]) - height, 0.0), max(picture_height - height, 0.0))
    draw.rectangle([x, y, x + width - 1, y + height - 1], fill=colour)
    brightness = np.dot(colour, (0.299, 0.587, 0.114))
    fill = (0, 0, 0) if brightness > 110 else (255, 255, 255)
    for start, (part, font) in zip(starts, parts, strict=False):
        draw.text((x + padding - left + start, y + padding - top), part, font=font, fill=fill, anchor="ls")
