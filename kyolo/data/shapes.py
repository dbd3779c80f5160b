"""The embedded data set: drawn scenes that a small detector learns in minutes, for the quickstart and the tests."""

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CLASS_NAMES = ("circle", "square", "triangle", "star", "ring")
MAX_OBJECTS = 4
EMPTY_FRACTION = 0.06  # Share of images without objects.
SIZES = (0.25, 0.5)  # Diameter of a figure, fraction of the image.
MIN_VISIBLE = 0.65  # Less of a figure is never visible: what would hide more of it is not drawn.
MIN_CONTRAST = 120.0  # Distance in RGB between a figure and what lies under it.
SUPERSAMPLING = 3  # Masks are drawn larger by this factor, then averaged.
RING_HOLE = 0.55  # Radius of a ring's hole, in radii.


@dataclass(frozen=True, eq=False)
class _Figure:
    """A drawn figure: what is seen of it, supersampled (S, S) bool, and its whole area in such pixels."""

    label: int
    colour: np.ndarray
    visible: np.ndarray
    area: int


def write_shapes(
    folder: str | os.PathLike,
    *,
    seed: int = 0,
    train: int = 400,
    val: int = 100,
    image_size: int = 192,
    shuffle_labels: bool = False,
) -> None:
    """Draws the data set and writes it as COCO json and JPEG.

    Circles, squares, triangles, stars and rings of any colour, turned and overlapping, before gradients, lines, spots
    and textures, with noise; some images are empty. A box is that of the visible part of its figure. Equal arguments
    give equal files, and image i of a split is the same in sets of any length.

    Args:
        folder: where SET/{train,val}/*.jpg and SET/annotations/instances_{train,val}.json go; made when missing.
        seed: of everything drawn. Default 0.
        train: number of training images. Default 400.
        val: number of validation images. Default 100.
        image_size: height and width, pixels. Default 192.
        shuffle_labels: deal the annotations of the training images out among them at random: nothing in a picture
            tells its boxes any more, and a detector that still finds them in val has seen something else.

    Example:
        ```python
        write_shapes("/tmp/shapes", train=8, val=2)
        index = load_index("/tmp/shapes", "train")
        ```
    """
    folder = Path(folder)
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate((("train", train), ("val", val))):
        (folder / split).mkdir(exist_ok=True)
        names = [f"{image:06d}.jpg" for image in range(count)]
        draw = partial(_write_image, folder / split, (seed, number), image_size)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            truths = list(pool.map(draw, range(count), names))  # one list of (label, xywh) an image
        if shuffle_labels and split == "train":
            truths = _deal_out(truths, np.random.default_rng((seed, number, count)))
        content = json.dumps(_to_coco(names, truths, image_size))
        (folder / "annotations" / f"instances_{split}.json").write_text(content, encoding="utf-8")


def _write_image(folder: Path, seed: tuple[int, int], image_size: int, image: int, name: str) -> list:
    """Draws and writes an image; returns what is on it. Its random numbers are its own, whichever thread draws it."""
    pixels, truth = draw_scene(np.random.default_rng((*seed, image)), image_size)
    Image.fromarray(pixels).save(folder / name, quality=90)
    return truth


def _deal_out(truths: list, rng: np.random.Generator) -> list:
    """Hands everything on along one random round, so that nothing stays where it was."""
    order = rng.permutation(len(truths))
    dealt = list(truths)
    for source, target in zip(order, np.roll(order, 1), strict=True):
        dealt[target] = truths[source]
    return dealt


def draw_scene(rng: np.random.Generator, image_size: int) -> tuple[np.ndarray, list[tuple[int, list[float]]]]:
    """Draws one image.

    Args:
        rng: where all randomness comes from.
        image_size: height and width, pixels.

    Returns:
        (image_size, image_size, 3) uint8, and (label, [x, y, width, height]) of every figure.
    """
    pixels = _draw_background(rng, image_size)
    figures: list[_Figure] = []
    count = 0 if rng.random() < EMPTY_FRACTION else rng.integers(1, MAX_OBJECTS + 1)
    for _ in range(count):
        pixels, figures = _add_figure(rng, pixels, figures)
    pixels = pixels + rng.normal(0, rng.uniform(2, 8), pixels.shape)
    truth = [(figure.label, _box(figure.visible)) for figure in figures]
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8), truth


def _add_figure(
    rng: np.random.Generator, pixels: np.ndarray, figures: list[_Figure]
) -> tuple[np.ndarray, list[_Figure]]:
    """The scene with one more figure, that stands out and hides no other too much; unchanged when none was found."""
    image_size = len(pixels)
    for _ in range(20):
        radius = image_size * rng.uniform(*SIZES) / 2
        centre = rng.uniform(0.7 * radius, image_size - 0.7 * radius, 2)  # May be cut by the border.
        label, angle, colour = int(rng.integers(len(CLASS_NAMES))), rng.uniform(0, 2 * math.pi), rng.uniform(0, 255, 3)
        mask, area = _draw_mask(label, centre, radius, angle, image_size)
        covered = [replace(figure, visible=figure.visible & ~mask) for figure in figures]
        scene = [*covered, _Figure(label, colour, mask, area)]
        if min(np.count_nonzero(figure.visible) / figure.area for figure in scene) < MIN_VISIBLE:
            continue
        coverage = _average(mask)[..., None]
        beneath = [pixels[coverage[..., 0] > 0.5].mean(axis=0)]
        beneath += [figure.colour for figure in figures if (figure.visible & mask).any()]
        if min(np.linalg.norm(colour - other) for other in beneath) >= MIN_CONTRAST:
            return pixels * (1 - coverage) + colour * coverage, scene
    return pixels, figures


def _draw_mask(label: int, centre: np.ndarray, radius: float, angle: float, image_size: int) -> tuple[np.ndarray, int]:
    """The figure's supersampled mask on the image, and its area there and beyond the border."""
    margin = math.ceil(radius) * SUPERSAMPLING
    side = image_size * SUPERSAMPLING
    canvas = Image.new("L", (side + 2 * margin, side + 2 * margin))
    draw = ImageDraw.Draw(canvas)
    middle, reach = centre * SUPERSAMPLING + margin, radius * SUPERSAMPLING
    name = CLASS_NAMES[label]
    if name in ("circle", "ring"):
        draw.ellipse([*(middle - reach), *(middle + reach)], fill=1)
        if name == "ring":
            draw.ellipse([*(middle - RING_HOLE * reach), *(middle + RING_HOLE * reach)], fill=0)
    else:
        corners = {"square": 4, "triangle": 3, "star": 10}[name]
        angles = angle + np.arange(corners) * (2 * math.pi / corners)
        reaches = np.where(np.arange(corners) % 2, 0.42, 1.0) * reach if name == "star" else np.full(corners, reach)
        points = middle + reaches[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        draw.polygon([tuple(point) for point in points], fill=1)
    whole = np.array(canvas, bool)
    return whole[margin : margin + side, margin : margin + side], int(whole.sum())


def _average(mask: np.ndarray) -> np.ndarray:
    """A supersampled mask as coverage 0..1 of each pixel."""
    steps = range(SUPERSAMPLING)
    counts = sum(mask[row::SUPERSAMPLING, column::SUPERSAMPLING].astype(np.uint8) for row in steps for column in steps)
    return counts / SUPERSAMPLING**2


def _box(mask: np.ndarray) -> list[float]:
    """Box of a supersampled mask as x, y, width, height in pixels of the image."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    corner = (columns[0], rows[0])
    sides = (columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    return [float(value / SUPERSAMPLING) for value in (*corner, *sides)]


def _draw_background(rng: np.random.Generator, image_size: int) -> np.ndarray:
    """A gradient with soft spots, a grain, and lines: (image_size, image_size, 3) float64."""
    ramp = np.linspace(0, 1, image_size)
    weights = np.stack(np.meshgrid(ramp, ramp), axis=-1) @ np.abs(rng.dirichlet((1, 1)))
    first, last = rng.uniform(30, 225, (2, 3))
    pixels = first + (last - first) * weights[..., None]
    spots = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(spots)
    for _ in range(rng.integers(0, 6)):
        x, y = rng.uniform(0, image_size, 2)
        width, height = rng.uniform(0.05, 0.25, 2) * image_size
        draw.ellipse([x - width, y - height, x + width, y + height], fill=_random_colour(rng))
    pixels = np.array(spots.filter(ImageFilter.GaussianBlur(image_size / 20)), np.float64)
    pixels += _draw_grain(rng, image_size)[..., None]
    lines = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(lines)
    for _ in range(rng.integers(0, 5)):
        ends = [tuple(point) for point in rng.uniform(0, image_size, (2, 2))]
        draw.line(ends, fill=_random_colour(rng), width=int(rng.integers(1, 4)))
    return np.array(lines, np.float64)


def _draw_grain(rng: np.random.Generator, image_size: int) -> np.ndarray:
    """A texture of zero mean: cloudy noise, or stripes."""
    strength = rng.uniform(0, 12)
    if rng.random() < 0.5:
        cells = int(rng.integers(8, 33))
        noise = rng.normal(0, strength, (cells, cells)).astype(np.float32)
        return np.array(Image.fromarray(noise).resize((image_size, image_size), Image.Resampling.BICUBIC))
    angle, waves = rng.uniform(0, math.pi), rng.uniform(4, 20)
    ramp = np.arange(image_size) / image_size
    phase = math.cos(angle) * ramp[None] + math.sin(angle) * ramp[:, None]
    return strength * np.sin(2 * math.pi * waves * phase)


def _random_colour(rng: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(value) for value in rng.integers(30, 226, 3))


def _to_coco(names: list[str], truths: list[list[tuple[int, list[float]]]], image_size: int) -> dict:
    """COCO json of a split; ids begin at 1."""
    sides = {"width": image_size, "height": image_size}
    boxes = [(image, label, box) for image, truth in enumerate(truths, 1) for label, box in truth]
    return {
        "images": [{"id": image, "file_name": name, **sides} for image, name in enumerate(names, 1)],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": label + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for number, (image, label, box) in enumerate(boxes, 1)
        ],
        "categories": [{"id": label, "name": name} for label, name in enumerate(CLASS_NAMES, 1)],
    }
