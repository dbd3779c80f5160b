"""The bare training step on random images, beside the machine's float32 limit; prints one JSON line.

python benchmarks/train_step.py --config configs/yolov8_n.yaml --image-size 320 --batch-size 8 --classes 3
"""

import argparse
import statistics
import time
from pathlib import Path

import common


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(common.ROOT / "configs" / "yolov8_n.yaml"))
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="such as train.jit_compile=true"
    )
    parser.add_argument(
        "--ledger", type=Path, help="file to append the line to, such as benchmarks/results/speed.jsonl"
    )
    args = parser.parse_args()

    import keras
    import numpy as np
    import tensorflow as tf

    from kyolo.config import load_config
    from kyolo.models import build_detector, build_loss
    from kyolo.models.cost import count_gflop, count_weights
    from kyolo.training import describe_environment
    from kyolo.training.optimizers import build_optimizer
    from kyolo.training.resolving import resolve_precision

    config = load_config(args.config, [*args.set, f"model.num_classes={args.classes}"])
    precision = resolve_precision(config.train.precision)
    keras.config.set_dtype_policy(precision)
    detector = build_detector(config.model)
    detector.compile(
        build_optimizer(config.train, args.steps),
        build_loss(config.model.loss, (args.image_size, args.image_size)),
        ema_decay=config.train.ema.decay or None,
        jit_compile=config.train.jit_compile,
    )
    timer = common.step_timer()
    batch = random_batch(np.random.default_rng(0), args.batch_size, args.image_size, args.classes)
    data = tf.data.Dataset.from_tensors(batch).repeat(args.steps)
    detector.fit(data, epochs=1, verbose=0, callbacks=[timer])
    step = statistics.median(timer.seconds[2:])
    gflop = count_gflop(detector, (args.image_size, args.image_size))
    limit = matrix_gflop_per_s()
    common.publish(
        {
            "benchmark": "train_step",
            "image_size": args.image_size,
            "batch_size": args.batch_size,
            "classes": args.classes,
            "precision": precision,
            "jit_compile": config.train.jit_compile,
            "weights": count_weights(detector),
            "step_ms": round(1e3 * step, 1),
            "first_step_s": round(timer.seconds[0], 1),
            # Forward and both gradients: three times the forward pass.
            "gflop_per_s": round(3 * gflop * args.batch_size / step, 1),
            "matrix_gflop_per_s": round(limit, 1),
            "share_of_limit": round(3 * gflop * args.batch_size / step / limit, 2),
            "peak_memory_gb": round(common.peak_memory_gb(), 2),
            "command": common.command_line(),
            **describe_environment(),
        },
        args.ledger,
    )


def matrix_gflop_per_s(side=2048, repeats=10):
    """What this machine reaches in a product of two float32 matrices: the limit of every convolution on it."""
    import tensorflow as tf

    matrix = tf.random.stateless_normal((side, side), seed=(0, 0))
    product = tf.function(tf.linalg.matmul)
    product(matrix, matrix)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(matrix, matrix).numpy()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / 1e9 / statistics.median(seconds)


def random_batch(rng, batch_size, size, classes, objects=7, padded=16):
    """A batch as kyolo's data sets give it, of noise."""
    import numpy as np

    corner = rng.random((batch_size, padded, 2)) * 0.5
    boxes = np.concatenate([corner, corner + 0.05 + rng.random((batch_size, padded, 2)) * 0.4], axis=-1) * size
    mask = np.tile(np.arange(padded) < objects, (batch_size, 1))
    labels = rng.integers(0, classes, (batch_size, padded))
    images = rng.integers(0, 256, (batch_size, size, size, 3))
    truth = {"boxes": (boxes * mask[..., None]).astype("float32"), "labels": (labels * mask).astype("int32")}
    return images.astype("uint8"), {**truth, "mask": mask}


if __name__ == "__main__":
    main()
