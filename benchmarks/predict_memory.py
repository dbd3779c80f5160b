"""Memory of predicting many image files, which must not grow with their number; prints one JSON line.

python benchmarks/predict_memory.py --images 20000

The images are small, each of another size, and the detector is a narrow one that was not trained, so that a run takes
minutes: what is measured is everything around the network.
"""

import argparse
import tempfile
import time
from pathlib import Path

import common

FIRST = 1000  # images after which memory should have its final size


def write_images(folder, count):
    """Write `count` JPEGs of noise; 101 and 199 are coprime, so that sizes repeat after 20,099 only."""
    import numpy as np
    from PIL import Image

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (230, 230, 3), dtype=np.uint8))
    for i in range(count):
        noise.crop((0, 0, 32 + i % 199, 32 + i % 101)).save(folder / f"{i:06}.jpg")


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument(
        "--ledger", type=Path, help="file to append the line to, such as benchmarks/results/speed.jsonl"
    )
    args = parser.parse_args()
    if args.images <= FIRST:
        parser.error(f"--images: expected more than {FIRST}, received {args.images}")

    import kyolo
    from kyolo.evaluation import find_images, predict_paths
    from kyolo.training import describe_environment

    detector = kyolo.YOLOv8("p", class_names=["object"], image_size=args.image_size)
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), args.images)
        predictions = predict_paths(detector, find_images([folder]), batch_size=args.batch_size, confidence=0.0)
        for number, _ in enumerate(predictions, start=1):
            if number == FIRST:
                first_memory, start = common.resident_memory_mb(), time.perf_counter()
        seconds = time.perf_counter() - start
    common.publish(
        {
            "benchmark": "predict_memory",
            "images": args.images,
            "image_size": args.image_size,
            "batch_size": args.batch_size,
            f"memory_mb_after_{FIRST}": first_memory,
            "memory_mb_after_all": common.resident_memory_mb(),
            "images_per_s": round((args.images - FIRST) / seconds, 1),
            "command": common.command_line(),
            **describe_environment(),
        },
        args.ledger,
    )


if __name__ == "__main__":
    main()
