"""The evaluation of one finished run of a study: the averaged weights of its last epoch.

`python -m kyolo.ablation.score RUN` writes it into the run directory. Choosing the best epoch on the validation split
would be a hidden trial, so the last epoch counts, whatever its AP.
"""

import json
import sys
from pathlib import Path
from typing import Any

from kyolo._environment import use_default_types
from kyolo.files import write_text

SCORES, MATCHES = "last_scores.json", "last_matches.npz"


def score_run(path: Path) -> dict[str, Any]:
    """Evaluate a run, write `last_scores.json` and `last_matches.npz` into its directory, and return the scores.

    Args:
        path: the run directory.

    Returns:
        The metrics of `kyolo.evaluation.evaluate`, and `epochs`, `parameters`, `gflop`, `train_seconds` and `curve`:
        validation AP by epoch.

    Raises:
        InputError: the run has no checkpoint, or its data set is missing.
    """
    from kyolo import data, evaluation, training
    from kyolo.ablation.matches import match
    from kyolo.evaluation.coco import detect_split
    from kyolo.models.cost import count_gflop, count_weights
    from kyolo.training.splits import validation_split

    run = training.open_run(path)
    split = validation_split(run.config)
    index = training.load_split(run.config.data, split)
    settings = run.config.evaluation
    dataset = data.make_dataset(
        index, split, image_size=run.config.data.image_size, batch_size=settings.batch_size, fit=run.config.data.fit
    )
    detector = run.load_detector("last")
    nms = evaluation.NMSSettings(settings.confidence, settings.iou, settings.max_detections, settings.multi_label)
    truth, results = detect_split(evaluation.Predictor(detector, nms), dataset)
    history = training.load_checkpoint(run.weights_path("last")).state["history"]
    scores = {
        **evaluation.coco_metrics(truth, results),
        "epochs": len(history),
        "parameters": count_weights(detector),
        "gflop": count_gflop(detector, detector.image_size),
        "train_seconds": sum(row["seconds"] for row in history),
        "curve": {row["epoch"]: row["val_ap"] for row in history if "val_ap" in row},
    }
    match(truth, results).save(path / MATCHES)
    write_text(path / SCORES, json.dumps(scores, indent=2) + "\n")
    return scores


if __name__ == "__main__":
    use_default_types()  # whatever ~/.keras/keras.json says, as in the training
    score_run(Path(sys.argv[1]))
