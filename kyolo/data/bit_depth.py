"""Images of more than 8 bits per channel as 8-bit images that are not nearly black."""

import io
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

BIT_DEPTHS = (8, 10, 12, 14, 16)  # of cameras


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """Return the upper 8 of the used bits of an image.

    Cameras store 10, 12 or 14 bits in 16-bit files. The used bits are 8, 10, 12, 14 or 16, the smallest number that
    holds the image's largest value; of 32-bit images, as many as that value has. Values below 0 and NaN become 0.
    Floats in 0..1 are scaled by 255; other floats are taken as integers.

    Args:
        values: of any shape, integer or float.

    Returns:
        The same shape, uint8.

    Example:
        >>> to_8_bits(np.array([0, 16, 4095], np.uint16)).tolist()  # 12 bits: value // 16
        [0, 1, 255]
    """
    if np.issubdtype(values.dtype, np.floating):
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0).clip(0)
        if values.max(initial=0) <= 1:
            return (values * 255).astype(np.uint8)
    elif np.issubdtype(values.dtype, np.signedinteger):
        values = values.clip(0)
    used = int(values.max(initial=0)).bit_length()
    depth = next((depth for depth in BIT_DEPTHS if used <= depth), used)
    return (values // 2 ** (depth - 8)).astype(np.uint8)


def decode_deep_png(source: str | os.PathLike | io.BytesIO) -> np.ndarray:
    """Return (H, W, 3) uint16 of a PNG, as TensorFlow decodes it: Pillow drops the lower 8 bits of colours."""
    content = source.getvalue() if isinstance(source, io.BytesIO) else Path(source).read_bytes()
    return tf.io.decode_png(content, channels=3, dtype=tf.uint16).numpy()
