"""Time of an epoch of kyolo and of Ultralytics in turn, on one machine in one sitting; prints one JSON line.

python benchmarks/ultralytics_epoch.py --yolo ENV/bin/yolo --data $KYOLO_DATA/bccd --output saved_models/epochs

Ultralytics is given the best of `workers` 0 and 2 and of its cache on and off. By itself it computes on one core fewer
than there are, so that it is measured on all of them too. kyolo is measured first and last, in each precision.
"""

import argparse
import itertools
import json
import re
import subprocess
import sys

import common
import ultralytics_program as ultralytics


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ultralytics.add_arguments(parser)
    parser.add_argument("--epochs", type=int, default=3, help="epochs measured of each, after a first one")
    parser.add_argument("--precision", nargs="+", default=["auto"], help="of kyolo: float32, mixed_bfloat16, auto")
    args = parser.parse_args()

    from kyolo.training import describe_environment

    data = ultralytics.write_set(args.data, args.output / "data")
    ours = [kyolo_epoch(args, precision) for precision in args.precision]
    theirs = {}
    for all_cores, workers, cache in itertools.product((False, True), (0, 2), (False, "ram")):
        name = f"{'all cores' if all_cores else 'as it comes'} workers={workers} cache={cache}"
        output = args.output / re.sub("[ =]", "_", name)
        ultralytics.train(
            args.yolo, data, output, all_cores=all_cores, epochs=args.epochs + 1, workers=workers, cache=cache,
            val=False, imgsz=args.image_size, batch=args.batch_size,
        )  # fmt: skip
        theirs[name] = round(ultralytics.epoch_seconds(output), 2)
    ours += [kyolo_epoch(args, precision) for precision in args.precision]
    best = {way: min(theirs[name] for name in theirs if name.startswith(way)) for way in ("as it comes", "all cores")}
    for first, last in zip(ours[: len(args.precision)], ours[len(args.precision) :], strict=True):
        seconds = [first["epoch_s"], last["epoch_s"]]
        common.publish(
            {
                "peer": f"ultralytics {ultralytics.version(args.yolo)}",
                "benchmark": "epoch_against_ultralytics",
                "data": args.data.name,
                "image_size": args.image_size,
                "batch_size": args.batch_size,
                "precision": first["precision"],
                "kyolo_s": seconds,
                "ultralytics_s": theirs,
                "ratio": round(max(seconds) / best["as it comes"], 3),
                "ratio_all_cores": round(max(seconds) / best["all cores"], 3),
                "command": ultralytics.command_line(args.yolo),
                **describe_environment(),
            },
            args.ledger,
        )


def kyolo_epoch(args, precision):
    """What `epoch.py` says of kyolo, in a process of its own."""
    settings = (
        f"data.image_size={args.image_size}", f"train.batch_size={args.batch_size}", f"train.precision={precision}"
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
