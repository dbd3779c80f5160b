"""Mosaic: images joined into one, with their boxes."""

import tensorflow as tf

from kyolo.data.transforms import pad_grey


def mosaic(images, boxes, centre: tf.Tensor, image_size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Joins four images at one point of a canvas of twice the network's size.

    Args:
        images: four (h, w, 3) uint8, h <= H, w <= W: top left, top right, bottom left, bottom right.
        boxes: four (n, 4) float32, xyxy pixels of these images.
        centre: (2,) int32 x, y: the point of the canvas where the four corners meet.
        image_size: (H, W).

    Returns:
        (2H, 2W, 3) uint8, grey where no image is; (sum of n, 4) float32 xyxy of the canvas. Parts of images and boxes
        lie beyond the canvas' border: the boxes are not clipped, so that what remains of them can be told.
    """
    quadrants, moved = [], []
    for position, (image, image_boxes) in enumerate(zip(images, boxes, strict=True)):
        begin, end, paddings, origin = [], [], [], []
        for axis in (0, 1):  # y, then x
            meeting, side = centre[1 - axis], tf.shape(image)[axis]
            if (position >> (1 - axis)) & 1:  # Below or right of the centre: the image begins there.
                room = 2 * image_size[axis] - meeting
                seen = tf.minimum(side, room)
                begin.append(0)
                paddings.append([0, room - seen])
                origin.append(meeting)
            else:  # Above or left of it: the image ends there.
                seen = tf.minimum(side, meeting)
                begin.append(side - seen)
                paddings.append([meeting - seen, 0])
                origin.append(meeting - side)
            end.append(begin[axis] + seen)
        quadrants.append(pad_grey(image[begin[0] : end[0], begin[1] : end[1]], paddings))
        moved.append(image_boxes + tf.cast(tf.stack([origin[1], origin[0]] * 2), tf.float32))
    canvas = tf.concat([tf.concat(quadrants[:2], axis=1), tf.concat(quadrants[2:], axis=1)], axis=0)
    return tf.ensure_shape(canvas, (2 * image_size[0], 2 * image_size[1], 3)), tf.concat(moved, axis=0)


def mosaic9(images, boxes, place: tf.Tensor, image_size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Joins nine images in a grid and cuts a canvas of twice the network's size out of it.

    Args:
        images: nine (h, w, 3) uint8, h <= H, w <= W, by rows.
        boxes: nine (n, 4) float32, xyxy pixels of these images.
        place: (2,) float32 x, y in 0..1: where in the grid the canvas lies.
        image_size: (H, W).

    Returns:
        As `mosaic`: (2H, 2W, 3) uint8; (sum of n, 4) float32 xyxy of the canvas, not clipped.
    """
    sizes = tf.stack([tf.shape(image)[:2] for image in images])
    cell = tf.reduce_max(sizes, axis=0)  # (2,) y, x
    canvas_size = tf.constant([2 * image_size[0], 2 * image_size[1]])
    grid_size = tf.maximum(3 * cell, canvas_size)
    origin = tf.cast(place[::-1] * tf.cast(grid_size - canvas_size + 1, tf.float32), tf.int32)
    origin = tf.minimum(origin, grid_size - canvas_size)
    rows, moved = [], []
    for row in range(3):
        tiles = []
        for column in range(3):
            image = images[3 * row + column]
            free = cell - tf.shape(image)[:2]
            before = free // 2
            tiles.append(pad_grey(image, [[before[0], free[0] - before[0]], [before[1], free[1] - before[1]]]))
            offset = tf.cast(tf.stack([row, column]) * cell + before - origin, tf.float32)
            moved.append(boxes[3 * row + column] + tf.tile(offset[::-1], [2]))
        rows.append(tf.concat(tiles, axis=1))
    grid = tf.concat(rows, axis=0)
    missing = grid_size - tf.shape(grid)[:2]
    grid = pad_grey(grid, [[0, missing[0]], [0, missing[1]]])
    canvas = grid[origin[0] : origin[0] + canvas_size[0], origin[1] : origin[1] + canvas_size[1]]
    return tf.ensure_shape(canvas, (2 * image_size[0], 2 * image_size[1], 3)), tf.concat(moved, axis=0)
