"""The whole way in minutes: draw a data set, train, evaluate, export a .tflite, run that file and score it too."""

import argparse
import contextlib
import io
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from kyolo import cli  # noqa: E402 (a clone that is not installed)
from kyolo.cli.options import import_tensorflow  # noqa: E402
from kyolo.config import config_to_dict  # noqa: E402

NUM_PICTURES, COLUMNS, ZOOM = 12, 6, 2


def main(argv: list[str] | None = None) -> int:
    """Run all steps, print a table and the paths of what was made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="new folder (default: the first free saved_models/quickstart*)")
    parser.add_argument(
        "--epochs", type=int, help="train for as many epochs (default: those of configs/quickstart.yaml)"
    )
    parser.add_argument(
        "--shuffle-labels", action="store_true", help="deal the labels out among the images: then nothing can be learnt"
    )
    arguments = parser.parse_args(argv)
    output = arguments.output or _free_folder(ROOT / "saved_models" / "quickstart")
    if output.exists():
        parser.error(f"{output}: expected a folder that is new, received one that exists; choose another --output")

    start = time.monotonic()
    import_tensorflow()
    from kyolo.data.shapes import write_shapes

    write_shapes(output / "data", train=500, image_size=128, shuffle_labels=arguments.shuffle_labels)
    epochs = [] if arguments.epochs is None else ["--set", f"train.epochs={arguments.epochs}"]
    config, run, tflite = ROOT / "configs" / "quickstart.yaml", output / "run", output / "detector.tflite"
    _kyolo("train", "--config", config, "--data", output / "data", "--output", run, *epochs)
    [scores] = _kyolo("evaluate", "--run", run)
    _kyolo("export", "--run", run, "--to", "tflite", "--output", tflite)
    summary = {"keras": scores, "tflite": _try_tflite(run, tflite, output / "pictures")}
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    _print_summary(summary, output, time.monotonic() - start)
    return 0


def _free_folder(path: Path) -> Path:
    number = 2
    free = path
    while free.exists():
        free = path.with_name(f"{path.name}-{number}")
        number += 1
    return free


def _kyolo(*arguments: object) -> list[dict]:
    """Run a kyolo command and return the documents it prints; end with its exit code if it fails."""
    stdout = io.StringIO()
    print(f"$ kyolo {' '.join(map(str, arguments))}", file=sys.stderr)
    with contextlib.redirect_stdout(stdout):
        code = cli.main([*map(str, arguments), "--json"])
    if code:
        sys.exit(code)
    return [json.loads(line) for line in stdout.getvalue().splitlines()]


def _try_tflite(run: Path, tflite: Path, pictures: Path) -> dict:
    """Score the .tflite on the validation images, and draw what it finds in some of them."""
    import numpy as np
    from PIL import Image

    from kyolo import data, evaluation, export, report, training

    config = training.open_run(run).config
    detector = export.TFLiteDetector(tflite)
    val = data.make_dataset(config.data.path or "", "val", image_size=detector.image_size, fit=detector.image_fit)
    settings = config_to_dict(config.evaluation)
    del settings["batch_size"]
    scores = evaluation.evaluate(detector, val, **settings)

    pictures.mkdir()
    paths = [record.path for record in val.index.records[:NUM_PICTURES]]
    drawn = []
    for found in evaluation.predict_paths(detector, paths):
        image = np.kron(data.read_image(found["image"]), np.ones((ZOOM, ZOOM, 1), np.uint8))
        zoomed = {**found, "boxes": np.multiply(found["boxes"], ZOOM)}
        drawn.append(report.draw_detections(image, zoomed, detector.class_names))
        Image.fromarray(drawn[-1]).save(pictures / Path(found["image"]).with_suffix(".png").name)
    rows = [np.concatenate(drawn[start : start + COLUMNS], axis=1) for start in range(0, len(drawn), COLUMNS)]
    Image.fromarray(np.concatenate(rows)).save(pictures / "all.png")
    return scores


def _print_summary(summary: dict, output: Path, seconds: float) -> None:
    from kyolo.report import format_table

    rows = [[name, scores["ap"], scores["ap50"], scores["ap75"]] for name, scores in summary.items()]
    print(format_table(rows, header=["val", "AP", "AP50", "AP75"]))
    print(f"\n{seconds:.0f} s in all")
    for name, what in (
        ("data", "drawn scenes, COCO json"),
        ("run", "the training run: kyolo evaluate --run, kyolo predict --run ..."),
        ("detector.tflite", "for phones, boards and browsers"),
        ("pictures", "what the .tflite finds in validation images"),
    ):
        print(f"{output / name}: {what}")


if __name__ == "__main__":
    sys.exit(main())
