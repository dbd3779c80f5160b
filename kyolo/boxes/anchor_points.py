"""The points that a detector predicts from: the centre of every cell of every level."""

from keras import ops


def make_anchor_points(image_size, strides):
    """Centres of all cells, level by level, row by row.

    Args:
        image_size: `(height, width)` of the network's input in pixels, each divisible by the largest stride: integers,
            or in a graph of any size scalar tensors.
        strides: strides of the levels in pixels, smallest first.

    Returns:
        `(A, 2)` float32 points x, y in pixels, and the `(A,)` float32 stride of each.

    Example:
        >>> points, strides = make_anchor_points((32, 32), (16, 32))
        >>> points.numpy().tolist()
        [[8.0, 8.0], [24.0, 8.0], [8.0, 24.0], [24.0, 24.0], [16.0, 16.0]]
    """
    height, width = image_size
    points, sizes = [], []
    for stride in strides:
        x = (ops.arange(width // stride, dtype="float32") + 0.5) * stride
        y = (ops.arange(height // stride, dtype="float32") + 0.5) * stride
        grid = ops.stack(ops.meshgrid(x, y), axis=-1)  # rows, columns, (x, y)
        level = ops.reshape(grid, (-1, 2))
        points.append(level)
        sizes.append(ops.full_like(level[:, 0], stride))
    return ops.concatenate(points, axis=0), ops.concatenate(sizes, axis=0)
