"""Images a second that one thread of the pipeline makes, with mosaic, affine, HSV and flip; prints one JSON line.

python benchmarks/pipeline.py --data $KYOLO_DATA/bccd --set data.image_size=320

`images_per_cpu_s` counts the processor's time and so is the figure of a quiet machine. `check_s` is what comes before
the first epoch, on all cores: every image is decoded and kept. `first_pass_s` is a pass of the one thread that decodes
the images itself, as it would without that check; `pass_s` is a later one.
"""

import argparse
import statistics
import time
from pathlib import Path

import common

STRIDE = 32  # of P5


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of a data set")
    parser.add_argument("--config", default=str(common.ROOT / "configs" / "yolov8_n.yaml"))
    parser.add_argument("--passes", type=int, default=5, help="passes measured, the first apart")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--ledger", type=Path, help="file to append the line to, such as benchmarks/results/speed.jsonl"
    )
    args = parser.parse_args()

    from kyolo.config import load_config
    from kyolo.training import describe_environment
    from kyolo.training.splits import load_split, make_store, train_stream

    config = load_config(args.config, [*args.set, f"data.path={args.data}"])
    full, empty = make_store(config), make_store(config)
    start = time.perf_counter()
    index = load_split(config.data, "train", full)
    check_s = time.perf_counter() - start
    kept, decoded = (train_stream(config, index, store, STRIDE).batches(config.train.epochs) for store in (full, empty))
    later, images = time_passes(kept, args.passes, warm_up=True)
    first, _ = time_passes(decoded, 1, warm_up=False)
    common.publish(
        {
            "benchmark": "pipeline",
            "data": args.data.rstrip("/").rsplit("/", 1)[-1],
            "image_size": config.data.image_size,
            "images_per_s": round(images / statistics.median(wall for wall, _ in later), 1),
            "images_per_cpu_s": round(images / statistics.median(cpu for _, cpu in later), 1),
            "pass_s": round(statistics.median(wall for wall, _ in later), 2),
            "first_pass_s": round(first[0][0], 2),
            "check_s": round(check_s, 2),
            "peak_memory_gb": round(common.peak_memory_gb(), 2),
            "command": common.command_line(),
            **describe_environment(),
        },
        args.ledger,
    )


def time_passes(dataset, passes, *, warm_up):
    """Wall and processor seconds of each pass, and the images of one; tracing is left out."""
    import tensorflow as tf

    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    steps = dataset.steps_per_epoch
    batches = iter(dataset.with_options(options))
    if warm_up:
        for _ in range(steps):
            next(batches)
    seconds = []
    for _ in range(passes):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            images, _ = next(batches)
        seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
    return seconds, steps * len(images)


if __name__ == "__main__":
    main()
