"""Time of an epoch of kyolo and of Ultralytics in turn, on one machine in one sitting; prints one JSON line.

python benchmarks/ultralytics_epoch.py --yolo ENV/bin/yolo --data $KYOLO_DATA/bccd --output saved_models/epochs

Ultralytics is given the best of `workers` 0 and 2 and of its cache on and off. kyolo is measured first and last.
"""

import argparse
import itertools
import json
import subprocess
import sys

import common
import ultralytics_program as ultralytics


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ultralytics.add_arguments(parser)
    parser.add_argument("--epochs", type=int, default=3, help="epochs measured of each, after a first one")
    parser.add_argument("--precision", default="auto", help="of kyolo: float32, mixed_bfloat16 or, by machine, auto")
    args = parser.parse_args()

    from kyolo.training import describe_environment

    data = ultralytics.write_set(args.data, args.output / "data")
    ours = [kyolo_epoch(args)]
    theirs = {}
    for workers, cache in itertools.product((0, 2), (False, "ram")):
        output = args.output / f"workers_{workers}_cache_{cache}"
        ultralytics.train(
            args.yolo, data, output, epochs=args.epochs + 1, workers=workers, cache=cache, val=False,
            imgsz=args.image_size, batch=args.batch_size,
        )  # fmt: skip
        theirs[f"workers={workers} cache={cache}"] = round(ultralytics.epoch_seconds(output), 2)
    ours.append(kyolo_epoch(args))
    common.publish(
        {
            "peer": f"ultralytics {ultralytics.version(args.yolo)}",
            "benchmark": "epoch_against_ultralytics",
            "data": args.data.name,
            "image_size": args.image_size,
            "batch_size": args.batch_size,
            "precision": ours[0]["precision"],
            "kyolo_s": [line["epoch_s"] for line in ours],
            "ultralytics_s": theirs,
            "ratio": round(max(line["epoch_s"] for line in ours) / min(theirs.values()), 3),
            "command": ultralytics.command_line(args.yolo),
            **describe_environment(),
        },
        args.ledger,
    )


def kyolo_epoch(args):
    """What `epoch.py` says of kyolo, in a process of its own."""
    settings = (
        f"data.image_size={args.image_size}", f"train.batch_size={args.batch_size}", f"train.precision={args.precision}"
    )  # fmt: skip
    command = [
        sys.executable, common.ROOT / "benchmarks" / "epoch.py", "--data", args.data, "--epochs", args.epochs,
        "--config", common.ROOT / "configs" / "yolov8_n_320.yaml",
        *(part for setting in settings for part in ("--set", setting)),
    ]  # fmt: skip
    done = subprocess.run(map(str, command), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
