"""AP of Ultralytics' YOLOv8-n, trained from scratch by kyolo's protocol; prints one JSON line.

python benchmarks/ultralytics_accuracy.py --yolo ENV/bin/yolo --data $KYOLO_DATA/bccd --output saved_models/peer

Ultralytics accumulates gradients over nbs / batch size batches per update: four at its default of nbs=64 and batch 16.
`--nbs 16` updates the weights on every batch, as kyolo does.

The boxes are those of its own validation of its best epoch: confidence 0.001, every class of a point, NMS 0.7 per
class, 300 boxes. A training that is already in --output is only scored.
"""

import argparse
import json
from pathlib import Path

import common
import ultralytics_program as ultralytics


def main():
    """Train, validate, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ultralytics.add_arguments(parser)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nbs", type=int, default=64, help="its nominal batch size, images per update (default: 64)")
    args = parser.parse_args()

    from kyolo.data import load_index
    from kyolo.evaluation import coco_metrics
    from kyolo.training import describe_environment

    size = {"imgsz": args.image_size, "batch": args.batch_size}
    data = args.output / "data" / "data.yaml"
    if not data.exists():
        ultralytics.write_set(args.data, data.parent)
    best = args.output / "run" / "weights" / "best.pt"
    if not best.exists():
        recipe = {"epochs": args.epochs, "seed": args.seed, "nbs": args.nbs}
        ultralytics.train(args.yolo, data, args.output / "run", **recipe, workers=0, **size)
    ultralytics.run(args.yolo, "val", args.output / "val", model=best, data=data, save_json=True, workers=0, **size)
    index = load_index(args.data, "val")
    found = json.loads((args.output / "val" / "predictions.json").read_text())
    metrics = coco_metrics(index.truth, as_coco(found, index))
    common.publish(
        {
            "peer": f"ultralytics {ultralytics.version(args.yolo)}",
            "benchmark": "accuracy",
            "data": args.data.name,
            "image_size": args.image_size,
            "batch_size": args.batch_size,
            "epochs": args.epochs,
            "seed": args.seed,
            "nbs": args.nbs,
            **{key: metrics[key] for key in ("ap", "ap50", "ap75", "per_class")},
            "train_s": round(ultralytics.epoch_ends(args.output / "run")[-1]),
            "command": ultralytics.command_line(args.yolo),
            **describe_environment(),
        },
        args.ledger,
    )


def as_coco(found, index):
    """Its results with the set's own ids: it names images by their stems, and counts classes from 1."""
    image_ids = {Path(image["file_name"]).stem: image["id"] for image in index.truth["images"]}
    numbers, expected = {row["category_id"] for row in found}, range(1, len(index.category_ids) + 1)
    if not numbers <= set(expected):
        raise SystemExit(f"expected classes from {list(expected)}, received {sorted(numbers)}: another version?")
    return [
        {
            "image_id": image_ids[Path(row["file_name"]).stem],
            "category_id": index.category_ids[row["category_id"] - 1],
            "bbox": row["bbox"],
            "score": row["score"],
        }
        for row in found
    ]


if __name__ == "__main__":
    main()
