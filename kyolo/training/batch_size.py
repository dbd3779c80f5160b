"""The batch size that a machine holds, for `train.batch_size: auto`."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kyolo import _compat
from kyolo.config import Config, image_hw, training_hw
from kyolo.data import Index
from kyolo.data.sampling import BatchSizes
from kyolo.errors import InputError
from kyolo.models.build import build_detector, build_loss
from kyolo.training.optimizers import build_optimizer, freeze_layers
from kyolo.training.run_folder import dtype_policy, from_scratch

CPU_BATCH_SIZE = 16
MAX_BATCH_SIZE = 64  # the reference's nominal batch: its learning rates are not made for more
MIN_STEPS = 8  # an epoch has at least so many where the batch is chosen
SHARE = 0.65  # of the memory: the rest is for fragmentation and for batches with more boxes
MEASURED = (2, 4)  # images a step


def resolve_batch_size(config: Config, index: Index, replicas: int = 1) -> int:
    """Turns "auto" into a number of images a step; a number stays what it is.

    On a GPU the memory of a step is measured at two small batches and extrapolated. On a CPU it is 16, the default.
    Several replicas get as many each: at most 64 together on GPUs, 16 on CPUs.

    Args:
        config: the configuration, whose classes and precision are known.
        index: the data that is trained on.
        replicas: number of them, on all machines.

    Raises:
        InputError: the memory does not hold a step with one image.
    """
    if isinstance(config.train.batch_size, int):
        return config.train.batch_size
    images = index.num_images // replicas
    if not tf.config.list_physical_devices("GPU"):
        return replicas * max(min(CPU_BATCH_SIZE // replicas, images), 1)
    most = max(MAX_BATCH_SIZE // replicas, 1)
    return replicas * choose_batch_size(_measure_steps(config, index), min(_compat.gpu_memory_limits()), images, most)


def choose_batch_size(peaks: Sequence[tuple[int, int]], memory: int, images: int, most: int = MAX_BATCH_SIZE) -> int:
    """The largest batch whose step, by a straight line through two measured ones, fits into a share of the memory.

    A multiple of 8, or below that a power of 2; small enough that an epoch has 8 steps, if there are 8 images.

    Args:
        peaks: images and bytes at the peak of two steps, the smaller batch first.
        memory: bytes of a GPU.
        images: in the data set.
        most: images a step, at most.

    Raises:
        InputError: not one image fits.

    Example:
        >>> choose_batch_size([(2, 3 * 2**30), (4, 4 * 2**30)], memory=24 * 2**30, images=10_000)
        24
    """
    (small, low), (large, high) = peaks
    each = max((high - low) / (large - small), 1.0)
    room = int((SHARE * memory - (low - small * each)) // each)
    if room < 1:
        needed, there = (f"{count / 2**30:.1f} GiB" for count in (low / SHARE, memory))
        raise InputError(
            f"The GPU's memory holds no training step: expected {needed} for {small} images, received {there}; make "
            f"data.image_size or model.backbone.size smaller, or set train.batch_size"
        )
    size = min(room, most, max(images // MIN_STEPS, 1))
    return size // 8 * 8 if size >= 8 else 2 ** (size.bit_length() - 1)


def _measure_steps(config: Config, index: Index) -> list[tuple[int, int]]:
    """Images, and bytes at the peak of a training step with so many, of a detector that is thrown away."""
    size, spread = image_hw(config.data.image_size), config.augment.multi_scale
    most = index.most_boxes * (4 if config.augment.mosaic else 1)
    peaks = []
    with dtype_policy(config.train.precision):
        detector = build_detector(from_scratch(config.model))
        if spread:
            size = BatchSizes(size, spread, detector.strides[-1], config.train.seed).sizes[-1]  # the largest
        freeze_layers(detector, config.train.freeze)
        optimizer = build_optimizer(config.train, MIN_STEPS, detector)
        loss = build_loss(config.model.loss, training_hw(config))
        detector.compile(
            optimizer, loss, ema_decay=config.train.ema.decay or None, jit_compile=config.train.jit_compile
        )
        for count in MEASURED:
            detector.fit(_noise(count, size, most), verbose=0)  # tracing, and the search for the fastest kernels
            tf.config.experimental.reset_memory_stats("GPU:0")
            detector.fit(_noise(count, size, most), verbose=0)
            peaks.append((count, tf.config.experimental.get_memory_info("GPU:0")["peak"]))
    return peaks


def _noise(count: int, size: tuple[int, int], boxes: int) -> tf.data.Dataset:
    """One batch of images of noise, each with so many boxes that cover them."""
    images = np.random.default_rng(0).integers(0, 256, (count, *size, 3)).astype(np.uint8)
    truth = {
        "boxes": np.tile(np.float32([0, 0, size[1], size[0]]), (count, boxes, 1)),
        "labels": np.zeros((count, boxes), np.int32),
        "mask": np.ones((count, boxes), bool),
    }
    return tf.data.Dataset.from_tensors((images, truth))
