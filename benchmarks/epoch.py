"""Epochs of training with the whole pipeline (mosaic, affine, HSV, flip), not scored; prints one JSON line.

The first epoch counts the decoding of the files, and not the first step, which traces and compiles.

python benchmarks/epoch.py --data $KYOLO_DATA/bccd --config configs/yolov8_n.yaml --set data.image_size=320
"""

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

import common


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of a data set")
    parser.add_argument("--config", default=str(common.ROOT / "configs" / "yolov8_n.yaml"))
    parser.add_argument("--epochs", type=int, default=4, help="epochs measured, the first apart")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--ledger", type=Path, help="file to append the line to, such as benchmarks/results/speed.jsonl"
    )
    args = parser.parse_args()

    import keras

    from kyolo.config import load_config, training_hw
    from kyolo.models import build_detector, build_loss
    from kyolo.training import describe_environment
    from kyolo.training.optimizers import build_optimizer
    from kyolo.training.resolving import resolve_precision
    from kyolo.training.splits import load_split, make_store, train_stream

    config = load_config(args.config, [*args.set, f"data.path={args.data}"])
    precision = resolve_precision(config.train.precision)
    keras.config.set_dtype_policy(precision)
    start = time.perf_counter()
    store = make_store(config)
    index = load_split(config.data, "train", store)
    loading = time.perf_counter() - start  # reads the annotations and decodes every image once
    model = dataclasses.replace(config.model, num_classes=len(index.class_names))
    detector = build_detector(model)
    stream = train_stream(config, index, store, detector.strides[-1])
    steps = stream.steps_per_epoch
    detector.compile(
        build_optimizer(config.train, steps),
        build_loss(model.loss, training_hw(config)),
        ema_decay=config.train.ema.decay or None,
        jit_compile=config.train.jit_compile,
    )
    timer, spans = common.step_timer(), common.epoch_timer()
    data = stream.batches(config.train.epochs)
    detector.fit(data, epochs=args.epochs + 1, steps_per_epoch=steps, verbose=0, callbacks=[timer, spans])
    epoch, step = statistics.median(spans.seconds[1:]), statistics.median(timer.seconds[2:])
    tracing = timer.seconds[0] - step
    common.publish(
        {
            "benchmark": "epoch",
            "data": args.data.rstrip("/").rsplit("/", 1)[-1],
            "images": index.num_images,
            "image_size": config.data.image_size,
            "batch_size": config.train.batch_size,
            "precision": precision,
            "epoch_s": round(epoch, 2),
            "load_s": round(loading, 2),
            "first_step_s": round(timer.seconds[0], 1),
            "first_epoch_over_later": round((loading + spans.seconds[0] - tracing) / epoch, 2),
            "step_ms": round(1e3 * step, 1),
            "images_per_s": round(steps * config.train.batch_size / epoch, 1),
            "peak_memory_gb": round(common.peak_memory_gb(), 2),
            "command": common.command_line(),
            **describe_environment(),
        },
        args.ledger,
    )


if __name__ == "__main__":
    main()
