"""Accuracy and time of light detectors as .tflite in int8: trains them, scores and times them, prints and draws them.

python benchmarks/light.py --data $KYOLO_DATA/bccd --output saved_models/light --plot docs/images/light.png

Runs that are there already are taken as they are. Each file is calibrated on train and scored on val; the files of the
first seed are timed in turn, image after image, so that a machine that slows down slows all. Prints one JSON line for
each detector, and the table of docs/models.md.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import common

PHONE = "phone_320.yaml"
VARIANTS = {  # by the name of the run: what the table calls it, the configuration, what is set beside, and the seeds
    "n_default": ("YOLOv8-n", "yolov8_n_320.yaml", [], 3),
    "n_100": ("YOLOv8-n, the phone's recipe", PHONE, ["model.backbone.size=n", "model.head.width=1.0"], 2),
    "phone": ("`configs/phone_320.yaml`", PHONE, [], 3),
    "minimalistic": (
        "MobileNetV3 small, minimalistic, the phone's recipe and head",
        PHONE,
        ["model.backbone={kind: mobilenet_v3, size: small_minimalistic}"],
        1,
    ),
}
CALIBRATION_IMAGES = 128
RUNS = 200  # of each file, for the times
LABELS_TURN = 0.7  # of the baseline's time: from there labels stand on the left of their points


def main():
    """Train what is missing, measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of a data set")
    parser.add_argument("--output", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--threads", type=int, default=1, help="of the TFLite interpreter (default: 1)")
    parser.add_argument("--plot", type=Path, help="PNG to draw")
    parser.add_argument("--ledger", type=Path, help="file to append to, such as benchmarks/results/accuracy.jsonl")
    args = parser.parse_args()
    for name, (_, config, settings, seeds) in VARIANTS.items():
        for seed in range(seeds):
            train(args.output / f"{name}_{seed}", config, [*settings, f"train.seed={seed}"], args.data)
    lines = measure(args)
    for line in lines:
        common.publish(line, args.ledger)
    print(table(lines))
    if args.plot is not None:
        draw(lines, args.plot)


def train(run, config, settings, data):
    """Train one run to its end, from the start or from where it was killed, unless that is done."""
    command = [sys.executable, common.ROOT / "tools" / "train.py"]
    if (run / "metrics.json").exists():
        done = common.describe_run(run)
        if done["data"] != data.name:
            raise SystemExit(f"{run}: expected a run on {data.name}, received one on {done['data']}")
        if done["epochs_done"] == done["epochs"]:
            return
        command += ["--resume", "--output", run]
    else:
        command += ["--config", common.ROOT / "configs" / config, "--data", data, "--output", run]
        for setting in settings:
            command += ["--set", setting]
    subprocess.run(command, check=True)


def measure(args):
    """One JSON line for each detector."""
    from kyolo import export
    from kyolo.models.cost import count_gflop, count_weights
    from kyolo.training import describe_environment

    lines, detectors = [], []
    for name, (label, _, _, seeds) in VARIANTS.items():
        runs = [score(args.output / f"{name}_{seed}", args.threads) for seed in range(seeds)]
        detector, size, _ = runs[0]
        detectors.append(detector)
        line = {"benchmark": "light", "detector": label, "data": args.data.name, "image_size": size}
        line |= {"weights": count_weights(detector), "gflop": count_gflop(detector, size)}
        lines.append(line | {"runs": [facts for _, _, facts in runs]})
    times = export.time_forms(detectors, threads=args.threads, runs=RUNS)
    shared = {"threads": args.threads, "command": common.command_line(), **describe_environment()}
    return [line | {"median_ms": milliseconds} | shared for line, milliseconds in zip(lines, times, strict=True)]


def score(path, threads):
    """The detector of a run, (H, W) of its input, and what a ledger says of it and of its int8 file."""
    from kyolo import data, export, training
    from kyolo.cli.export import calibration_images
    from kyolo.config import image_hw
    from kyolo.evaluation import evaluate

    run = training.open_run(path)
    detector, size = run.load_detector(), image_hw(run.config.data.image_size)
    val = data.make_dataset(training.load_split(run.config.data, "val"), "val", image_size=size, cache=None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "int8.tflite"
        calibration = calibration_images(run.config, CALIBRATION_IMAGES)
        export.to_tflite(detector, file, precision="int8", calibration=calibration)
        whole, exported = (evaluate(each, val) for each in (detector, export.TFLiteDetector(file, num_threads=threads)))
        made = common.describe_run(path)
        facts = {key: made[key] for key in ("config_sha256", "seed", "precision", "epochs", "train_s", "commit")}
        facts |= {"ap": whole["ap"], "int8_ap": exported["ap"], "protocol": whole["protocol"]}
        return detector, size, facts | {"bytes": file.stat().st_size}


def mean_ap(line):
    """AP of the int8 files, mean of the seeds."""
    return statistics.mean(run["int8_ap"] for run in line["runs"])


def time_ratio(line, lines):
    """Time of the int8 file, that of the first line's being 1."""
    return line["median_ms"]["int8"] / lines[0]["median_ms"]["int8"]


def table(lines):
    """The table of docs/models.md."""
    columns = ["detector", "weights", "GFLOP", "epochs", "AP by seed", "int8: AP by seed", "mean", "MB", "time"]
    rows = [columns, ["---"] * len(columns)]
    for line in lines:
        runs = line["runs"]
        row = [line["detector"], f"{line['weights']:,}", f"{line['gflop']:.2f}", str(runs[0]["epochs"])]
        row += [", ".join(f"{run[key]:.3f}" for run in runs) for key in ("ap", "int8_ap")]
        rows.append([*row, f"{mean_ap(line):.3f}", f"{runs[0]['bytes'] / 1e6:.1f}", f"{time_ratio(line, lines):.2f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(lines, path):
    """Draw AP over time: a point for each seed and the mean of each detector, all as int8 files."""
    import matplotlib
    from matplotlib import pyplot

    matplotlib.use("agg")
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for line in lines:
        place = time_ratio(line, lines), mean_ap(line)
        (points,) = axes.plot([place[0]] * len(line["runs"]), [run["int8_ap"] for run in line["runs"]], ".", alpha=0.5)
        axes.plot(*place, "o", color=points.get_color())
        left = place[0] > LABELS_TURN
        beside = {"xytext": (-8, -3), "ha": "right"} if left else {"xytext": (8, -3)}
        axes.annotate(line["detector"].strip("`"), place, **beside, textcoords="offset points", fontsize=8)
    axes.axvline(0.5, color="0.8", zorder=0)
    axes.axhline(mean_ap(lines[0]) - 0.03, color="0.8", zorder=0)
    axes.set(xlabel="time of int8 .tflite, YOLOv8-n = 1", ylabel=f"AP on {lines[0]['data']} val, int8")
    axes.margins(x=0.15, y=0.15)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
