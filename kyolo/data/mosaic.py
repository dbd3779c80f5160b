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
