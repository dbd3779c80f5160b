"""Image transforms with their boxes: TensorFlow ops on one image, random only through the seed that is handed in.

Boxes are xyxy in edge coordinates: pixel i covers [i, i + 1), so an image of width W spans 0..W.
"""

import math
from dataclasses import dataclass

import tensorflow as tf

from kyolo.errors import ArgumentError

GREY = 114  # Fill value of everything that no image covers; customary in the YOLO family.
MIN_SIDE = 2.0  # Pixels: boxes with a shorter side after the warp are dropped.
MIN_AREA_KEPT = 0.1  # Boxes of which less remains visible are dropped.
MAX_ASPECT = 100.0


@dataclass(frozen=True)
class Augmentation:
    """Strength of the random changes of training images; defaults are those of the YOLOv8 recipe.

    Args:
        mosaic: probability of joining four images.
        close_mosaic: number of last epochs without mosaic, and with all batches of the network's input size.
        degrees: largest rotation, degrees.
        translate: largest shift, fraction of the network's input.
        scale: the image is scaled by 1 - scale .. 1 + scale.
        shear: largest shear, degrees.
        hue: largest turn of the hue, in half circles (0.015: 2.7 degrees).
        saturation: the saturation is multiplied by 1 - saturation .. 1 + saturation.
        value: the brightness is multiplied by 1 - value .. 1 + value.
        flip_horizontal: probability of mirroring left and right.
        flip_vertical: probability of mirroring top and bottom.
        multi_scale: each batch has one size, 1 - multi_scale .. 1 + multi_scale of the network's input, in multiples of
            its largest stride.
    """

    mosaic: float = 1.0
    close_mosaic: int = 10
    degrees: float = 0.0
    translate: float = 0.1
    scale: float = 0.5
    shear: float = 0.0
    hue: float = 0.015
    saturation: float = 0.7
    value: float = 0.4
    flip_horizontal: float = 0.5
    flip_vertical: float = 0.0
    multi_scale: float = 0.0


def fitted_size(size, image_size: tuple[int, int], fit: str):
    """Size that an image is resized to before padding: (height, width), float64 with integer values.

    Args:
        size: (height, width) of the image: numbers or tensors, of one image or of many.
        image_size: (H, W) of the network's input.
        fit: "letterbox": the largest size that fits with the aspect kept; "stretch": (H, W).
    """
    sides = [tf.cast(side, tf.float64) for side in size]
    if fit == "stretch":
        return tuple(tf.zeros_like(side) + wanted for side, wanted in zip(sides, image_size, strict=True))
    if fit != "letterbox":
        raise ArgumentError("fit", f'expected "letterbox" or "stretch", got {fit!r}.')
    scale = tf.minimum(image_size[0] / sides[0], image_size[1] / sides[1])
    return tuple(tf.maximum(tf.round(side * scale), 1.0) for side in sides)


def fit_image(image, image_size: tuple[int, int], fit: str) -> tf.Tensor:
    """Resizes to `fitted_size`: bilinear with half-pixel centres, no antialiasing, rounded to uint8."""
    image = tf.convert_to_tensor(image)
    height, width = fitted_size(tf.unstack(tf.shape(image)[:2]), image_size, fit)
    resized = tf.image.resize(image, tf.cast([height, width], tf.int32), method="bilinear", antialias=False)
    return tf.cast(tf.round(resized), tf.uint8)  # (h, w, 3)


def pad_image(image: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Centres an image that fits on a grey (H, W); an odd pixel goes to the bottom or right."""
    height, width = tf.unstack(tf.shape(image)[:2])
    top, left = (image_size[0] - height) // 2, (image_size[1] - width) // 2
    paddings = [[top, image_size[0] - height - top], [left, image_size[1] - width - left]]
    return tf.ensure_shape(pad_grey(image, paddings), (*image_size, 3))


def pad_grey(image: tf.Tensor, paddings) -> tf.Tensor:
    """Pads as `tf.pad` does, in half the time: it copies rows, where that goes byte by byte."""
    (top, bottom), (left, right) = paddings
    height, width = tf.unstack(tf.shape(image)[:2])

    def grey(rows, columns):
        return tf.fill([rows, columns, 3], tf.constant(GREY, tf.uint8))

    middle = tf.concat([grey(height, left), image, grey(height, right)], axis=1)
    width += left + right
    return tf.concat([grey(top, width), middle, grey(bottom, width)], axis=0)


def letterbox_parameters(size, image_size: tuple[int, int], fit: str) -> tf.Tensor:
    """(..., 4) float32 scale_x, scale_y, pad_x, pad_y: x_network = x_original * scale_x + pad_x, y alike."""
    height, width = fitted_size(size, image_size, fit)
    scales = [width / tf.cast(size[1], tf.float64), height / tf.cast(size[0], tf.float64)]
    pads = [(image_size[1] - width) // 2, (image_size[0] - height) // 2]
    return tf.cast(tf.stack(scales + pads, axis=-1), tf.float32)


def letterbox(image, image_size: tuple[int, int], fit: str = "letterbox") -> tuple[tf.Tensor, tf.Tensor]:
    """Brings an image of any size to the network's input size.

    Used wherever an image goes into a detector: evaluation, prediction, export. Works eagerly and in a graph, with
    sizes that are known only there.

    Args:
        image: (h, w, 3) uint8.
        image_size: (H, W).
        fit: "letterbox": scaled to fit with its aspect kept, centred, the rest grey 114; "stretch": scaled to (H, W).

    Returns:
        (H, W, 3) uint8, and (4,) float32 scale_x, scale_y, pad_x, pad_y with
        x_network = x_original * scale_x + pad_x and y_network = y_original * scale_y + pad_y.

    Example:
        ```python
        image, parameters = letterbox(read_image("cells.jpg"), (320, 320))
        ```
    """
    image = tf.convert_to_tensor(image)
    parameters = letterbox_parameters(tf.unstack(tf.shape(image)[:2]), image_size, fit)
    return pad_image(fit_image(image, image_size, fit), image_size), parameters


def random_affine(augment: Augmentation, seed: tf.Tensor, canvas_size, image_size: tuple[int, int]) -> tf.Tensor:
    """Draws the map from the canvas to the network's input: rotation, scale, shear, shift, flips.

    The canvas' centre c goes to the output's centre o, moved by the random shift d:
    y = F (K R (x - c) s + d) + o, with flips F, shear K, rotation R, scale s.

    Args:
        augment: the strengths.
        seed: (2,) integer.
        canvas_size: (height, width) of the canvas.
        image_size: (H, W) of the output.

    Returns:
        (2, 3) float32: y = matrix[:, :2] x + matrix[:, 2] for points (x, y) in edge coordinates.
    """
    draws = tf.random.stateless_uniform((8,), seed, -1.0, 1.0)
    angle = draws[0] * (augment.degrees * math.pi / 180.0)
    scale = 1.0 + draws[1] * augment.scale
    shear = tf.tan(draws[2:4] * (augment.shear * math.pi / 180.0))
    shift = draws[4:6] * augment.translate * tf.constant([image_size[1], image_size[0]], tf.float32)
    flips = tf.stack([augment.flip_horizontal, augment.flip_vertical])
    flips = tf.where((draws[6:8] + 1.0) / 2.0 < flips, -1.0, 1.0)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    rotation = tf.reshape(tf.stack([cosine, -sine, sine, cosine]), (2, 2)) * scale
    shearing = tf.reshape(tf.stack([1.0, shear[0], shear[1], 1.0]), (2, 2))
    linear = flips[:, None] * tf.matmul(shearing, rotation)
    canvas_centre = tf.stack([canvas_size[1], canvas_size[0]]) / 2
    centre = tf.constant([image_size[1] / 2, image_size[0] / 2], tf.float32)
    offset = flips * shift + centre - tf.linalg.matvec(linear, tf.cast(canvas_centre, tf.float32))
    return tf.concat([linear, offset[:, None]], axis=1)


def warp_image(image: tf.Tensor, matrix: tf.Tensor, image_size, *, upright: bool = False) -> tf.Tensor:
    """Moves an image by `matrix`: bilinear, grey outside, (h, w, 3) uint8 -> (H, W, 3) float32 in 0..255.

    The ops want the map from output to input, between pixel indices; a pixel's centre lies half a pixel beyond its
    index: x_in + 1/2 = A (x_out + 1/2) + b. With `upright` (no rotation, no shear: A is diagonal) this is a crop,
    resized and mirrored, which is computed twice as fast.
    """
    inverse = tf.linalg.inv(matrix[:, :2])
    offset = tf.linalg.matvec(inverse, 0.5 - matrix[:, 2]) - 0.5  # (x, y) of output pixel (0, 0) in the input
    if upright:
        steps = tf.cast(tf.stack([image_size[1], image_size[0]]) - 1, tf.float32)
        last = offset + tf.linalg.diag_part(inverse) * steps
        corners = tf.stack([offset[1], offset[0], last[1], last[0]])
        limits = tf.cast(tf.tile(tf.shape(image)[:2] - 1, [2]), tf.float32)  # y, x, y, x
        warped = tf.image.crop_and_resize(image[None], [corners / limits], [0], image_size, extrapolation_value=GREY)
    else:
        rows = tf.concat([inverse, offset[:, None]], axis=1)
        warped = tf.raw_ops.ImageProjectiveTransformV3(
            images=tf.cast(image[None], tf.float32),
            transforms=tf.concat([tf.reshape(rows, (1, 6)), tf.zeros((1, 2))], axis=1),
            output_shape=tf.convert_to_tensor(image_size, tf.int32),
            fill_value=float(GREY),
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )
    return warped[0]


def warp_boxes(boxes: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """Moves boxes by `matrix`: (n, 4) xyxy -> (n, 4) xyxy, the smallest upright boxes around the moved corners."""
    corners = tf.reshape(tf.gather(boxes, [0, 1, 2, 1, 2, 3, 0, 3], axis=1), (-1, 4, 2))
    moved = tf.matmul(corners, matrix[:, :2], transpose_b=True) + matrix[:, 2]  # (n, 4, 2)
    return tf.concat([tf.reduce_min(moved, axis=1), tf.reduce_max(moved, axis=1)], axis=1)


def select_visible(boxes: tf.Tensor, matrix: tf.Tensor, canvas_size, image_size):
    """Moves boxes by `matrix` and tells those of which too little is left.

    A box stays when its visible part has sides over 2 px, an aspect under 100, and over a tenth of the whole moved
    box's area. Visible is what lies inside the canvas *and* inside the output.

    Args:
        boxes: (n, 4) float32 xyxy pixels of the canvas; they may reach beyond it.
        matrix: (2, 3) float32, as from `random_affine`.
        canvas_size: (height, width).
        image_size: (H, W) of the output.

    Returns:
        (n, 4) float32 xyxy of what is visible in the output, and (n,) bool: True for boxes that stay.
    """
    visible = _clip(warp_boxes(_clip(boxes, canvas_size), matrix), image_size)
    whole = warp_boxes(boxes, matrix)
    width, height = visible[:, 2] - visible[:, 0], visible[:, 3] - visible[:, 1]
    area = (whole[:, 2] - whole[:, 0]) * (whole[:, 3] - whole[:, 1])
    stays = (tf.minimum(width, height) > MIN_SIDE) & (width * height > MIN_AREA_KEPT * area)
    stays &= tf.maximum(width, height) < MAX_ASPECT * tf.minimum(width, height)
    return visible, stays


def jitter_colours(pixels: tf.Tensor, augment: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Changes hue, saturation and brightness at random: (H, W, 3) float32 in 0..255 -> the same.

    A pixel p with channel mean m becomes v (m + s R (p - m)), where R turns about the grey axis by the hue's angle, s
    and v are the gains of saturation and value: one 3x3 matrix, three times as fast as the way through HSV. Deviation
    from the HSV formula: a change of saturation keeps the channels' mean, not their maximum.
    """
    draws = tf.random.stateless_uniform((3,), seed, -1.0, 1.0)
    angle = draws[0] * (augment.hue * math.pi)
    saturation, value = 1.0 + draws[1] * augment.saturation, 1.0 + draws[2] * augment.value
    grey = tf.fill((3, 3), 1.0 / 3.0)
    quarter_turn = tf.constant([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3.0)
    turn = tf.cos(angle) * (tf.eye(3) - grey) + tf.sin(angle) * quarter_turn
    matrix = value * (grey + saturation * turn)
    changed = tf.matmul(tf.reshape(pixels, (-1, 3)), matrix, transpose_b=True)
    return tf.clip_by_value(tf.reshape(changed, tf.shape(pixels)), 0.0, 255.0)


def augment_image(
    image, boxes, labels, augment: Augmentation, seed: tf.Tensor, image_size: tuple[int, int], output_size=None
):
    """Applies geometry and colours to a canvas, resampling it once.

    Args:
        image: (h, w, 3) uint8.
        boxes: (n, 4) float32 xyxy pixels of `image`; they may reach beyond it.
        labels: (n,) int32.
        augment: the strengths.
        seed: (2,) integer.
        image_size: (H, W) of the network's input.
        output_size: (2,) int32 height and width of the output: the same, scaled. Default: `image_size`.

    Returns:
        (H, W, 3) uint8, (m, 4) float32 xyxy inside the output, (m,) int32.
    """
    seeds = tf.random.split(seed, 2)
    canvas_size = tf.shape(image)[:2]
    matrix = random_affine(augment, seeds[0], canvas_size, image_size)
    if output_size is None:
        output_size = image_size
    else:
        matrix *= tf.cast(output_size[::-1] / image_size[::-1], tf.float32)[:, None]  # x, then y
    pixels = warp_image(image, matrix, output_size, upright=not (augment.degrees or augment.shear))
    if augment.hue or augment.saturation or augment.value:
        pixels = jitter_colours(pixels, augment, seeds[1])
    visible, stays = select_visible(boxes, matrix, canvas_size, output_size)
    return tf.cast(pixels + 0.5, tf.uint8), tf.boolean_mask(visible, stays), tf.boolean_mask(labels, stays)


def _clip(boxes: tf.Tensor, size) -> tf.Tensor:
    """Clips xyxy boxes to 0..width, 0..height of `size` (height, width)."""
    limits = tf.cast(tf.stack([size[1], size[0], size[1], size[0]]), tf.float32)
    return tf.clip_by_value(boxes, 0.0, limits)
