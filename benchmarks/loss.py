"""What the loss costs: its part of a training step on real batches, or with --costs each box loss beside CIoU.

python benchmarks/loss.py --data $KYOLO_DATA/bccd --set data.image_size=320 --set train.batch_size=8
python benchmarks/loss.py --costs
"""

import argparse
import dataclasses
import itertools
import statistics
import time
from pathlib import Path

import common


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(common.ROOT / "configs" / "yolov8_n.yaml"))
    parser.add_argument("--data", help="folder of a data set; needed without --costs")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--costs", action="store_true", help="value and gradient of every box loss instead")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--ledger", type=Path, help="file to append the line to")
    args = parser.parse_args()
    if not args.costs and args.data is None:
        parser.error("--data is missing: expected the folder of a data set")

    from kyolo.training import describe_environment

    line = costs(args) if args.costs else share(args)
    common.publish({**line, "command": common.command_line(), **describe_environment()}, args.ledger)


def share(args):
    """The loss with the assigner and its gradient by the logits, beside the whole step, in turn on the same batches."""
    import keras
    import tensorflow as tf

    from kyolo.boxes import make_anchor_points
    from kyolo.config import image_hw, load_config
    from kyolo.data import Augmentation, make_dataset
    from kyolo.models import build_detector, build_loss
    from kyolo.training.optimizers import build_optimizer

    config = load_config(args.config, args.set)
    keras.config.set_dtype_policy("float32")
    image_size = image_hw(config.data.image_size)
    data = make_dataset(
        args.data,
        image_size=image_size,
        batch_size=config.train.batch_size,
        augment=Augmentation(**dataclasses.asdict(config.augment)),
        fit=config.data.fit,
    )
    detector = build_detector(dataclasses.replace(config.model, num_classes=len(data.index.class_names)))
    loss = build_loss(config.model.loss, image_size)
    detector.compile(build_optimizer(config.train, args.steps), loss, ema_decay=config.train.ema.decay or None)
    points, strides = make_anchor_points(image_size, detector.strides)

    @tf.function(reduce_retracing=True)
    def loss_and_gradients(y_true, y_pred):
        with tf.GradientTape() as tape:
            tape.watch(y_pred)
            value = loss(y_true, y_pred, points, strides)
        return tape.gradient(value, y_pred)

    detector.make_train_function()
    whole, part = [], []
    for images, y_true in itertools.islice(data, args.steps + 3):
        y_pred = detector(images, training=False)
        part.append(seconds(loss_and_gradients, y_true, y_pred))
        whole.append(seconds(detector.train_function, iter([(images, y_true)])))
    step_ms, loss_ms = (1e3 * statistics.median(times[3:]) for times in (whole, part))  # after tracing
    return {
        "benchmark": "loss_share",
        "image_size": list(image_size),
        "batch_size": config.train.batch_size,
        "classes": detector.num_classes,
        "step_ms": round(step_ms, 1),
        "loss_ms": round(loss_ms, 1),
        "share": round(loss_ms / step_ms, 4),
    }


def costs(args):
    """Milliseconds of each box loss's value and gradient on 8 x 2100 boxes, in turn, and the ratio to CIoU's."""
    import numpy as np
    import tensorflow as tf

    from kyolo import registry
    from kyolo.config import BoxLossConfig, LossConfig
    from kyolo.models import build_loss

    rng = np.random.default_rng(0)
    low = rng.uniform(0, 250, (8, 2100, 2))
    gt_boxes = np.concatenate([low, low + rng.uniform(4, 70, low.shape)], axis=-1)
    pair = [tf.constant(boxes, "float32") for boxes in (gt_boxes, gt_boxes + rng.normal(0, 4, gt_boxes.shape))]

    def differentiate(loss):
        @tf.function
        def run(y_true, y_pred):
            with tf.GradientTape() as tape:
                tape.watch(y_pred)
                value = tf.reduce_sum(loss.call(y_true, y_pred))
            return tape.gradient(value, y_pred)

        run(*pair)
        return run

    kinds = registry.names("box_loss")
    losses = [build_loss(LossConfig(box=BoxLossConfig(kind)), image_size=(320, 320)).box for kind in kinds]
    runs = dict(zip(kinds, map(differentiate, losses), strict=True))
    times = {kind: [] for kind in kinds}
    for _ in range(10 * args.steps):
        for kind, run in runs.items():
            times[kind].append(seconds(run, *pair))
    median = {kind: statistics.median(values) for kind, values in times.items()}
    return {
        "benchmark": "loss_costs",
        "boxes": len(gt_boxes) * gt_boxes.shape[1],
        "ms": {kind: round(1e3 * value, 3) for kind, value in median.items()},
        "times_ciou": {kind: round(value / median["ciou"], 2) for kind, value in median.items()},
    }


def seconds(function, *arguments):
    """Wall time of a call, until all its results are there."""
    import tensorflow as tf

    start = time.perf_counter()
    for tensor in tf.nest.flatten(function(*arguments)):
        tensor.numpy()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
