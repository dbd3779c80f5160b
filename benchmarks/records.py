"""Memory of training on TFRecords, which must not grow with their number; prints one JSON line.

python benchmarks/records.py --records 200000

One pass through everything that training does with the data, mosaic and all; no network. The images are a few hundred
small ones, drawn once and written again and again, with other boxes each time, so that a run takes minutes.
"""

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import common

DRAWN = 256  # Different images.
BOXES = 4  # An image has.
SHARDS = 64


def write_records(folder, records, image_size):
    """Write the set; in a process of its own, as it holds all boxes at once."""
    import numpy as np

    from kyolo.data import DatasetIndex, ImageRecord, write_shapes
    from kyolo.data.report import DataReport
    from kyolo.data.shapes import CLASS_NAMES
    from kyolo.data.shards import write_index_file, write_shards

    write_shapes(folder / "drawn", train=DRAWN, val=0, image_size=image_size)
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, image_size / 2, (records, BOXES, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(4, image_size / 2, corners.shape)], axis=-1)
    labels = rng.integers(len(CLASS_NAMES), size=(records, BOXES)).astype(np.int32)
    index = DatasetIndex(
        tuple(
            ImageRecord(
                str(folder / f"drawn/train/{number % DRAWN:06d}.jpg"),
                number,
                image_size,
                image_size,
                boxes[number].astype(np.float32),
                labels[number],
            )
            for number in range(records)
        ),
        CLASS_NAMES,
        tuple(range(1, len(CLASS_NAMES) + 1)),
        {
            "images": [
                {"id": number, "file_name": f"{number:09d}.jpg", "height": image_size, "width": image_size}
                for number in range(records)
            ],
            "annotations": [],
        },
        DataReport(
            images=records,
            boxes=labels.size,
            boxes_per_class=dict(zip(CLASS_NAMES, np.bincount(labels.ravel()).tolist(), strict=True)),
        ),
    )
    (folder / "set").mkdir()
    write_index_file(folder / "set", index, {"train": write_shards(folder / "set", "train", index, SHARDS)})


def main():
    """Write, read one pass, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200000)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument(
        "--ledger", type=Path, help="file to append the line to, such as benchmarks/results/speed.jsonl"
    )
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        writer = multiprocessing.get_context("spawn").Process(
            target=write_records, args=(Path(folder), args.records, args.image_size)
        )
        writer.start()
        writer.join()

        import numpy as np

        from kyolo.data import make_dataset
        from kyolo.training import describe_environment

        train = make_dataset(f"{folder}/set", image_size=args.image_size, batch_size=args.batch_size)
        seen, memory = np.zeros(args.records, bool), {}
        start = time.perf_counter()
        for step, (_, truth) in enumerate(train.take(train.steps_per_epoch), start=1):
            seen[truth["image_id"].numpy()] = True
            for part in (4, 2, 1):
                if step == train.steps_per_epoch // part:
                    memory[f"peak_memory_gb_after_1/{part}"] = round(common.peak_memory_gb(), 3)
        seconds = time.perf_counter() - start
        num_bytes = sum(path.stat().st_size for path in Path(folder, "set").iterdir())
    common.publish(
        {
            "benchmark": "records",
            "records": args.records,
            "records_seen": int(seen.sum()),
            "set_gb": round(num_bytes / 1e9, 3),
            "image_size": args.image_size,
            "batch_size": args.batch_size,
            **memory,
            "images_per_s": round(args.records / seconds, 1),
            "command": common.command_line(),
            **describe_environment(),
        },
        args.ledger,
    )


if __name__ == "__main__":
    main()
