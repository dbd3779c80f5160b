"""Appends a finished run to the ledger of accuracy, one JSON line.

python benchmarks/ledger.py --run saved_models/bccd --command "kyolo train --config ..."
"""

import argparse
import hashlib
import json
from pathlib import Path

import common

LEDGER = common.RESULTS / "accuracy.jsonl"


def main():
    """Read the run, append and print its line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--command", required=True, help="the command that made the run, as a reader would give it")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    args = parser.parse_args()

    from kyolo.training import load_checkpoint, open_run

    run = open_run(args.run)
    metrics = json.loads((run.path / "metrics.json").read_text())
    history = load_checkpoint(run.weights_path("last")).state["history"]
    line = {
        "command": args.command,
        "config_sha256": hashlib.sha256((run.path / "config.yaml").read_bytes()).hexdigest()[:16],
        "data": Path(run.config.data.path).name,
        "seed": run.config.train.seed,
        "precision": run.config.train.precision,
        "epochs": run.config.train.epochs,
        "best": {key: metrics[key] for key in ("epoch", "ap", "ap50", "ap75", "per_class")},
        "last": {key: history[-1][f"val_{key}"] for key in ("ap", "ap50", "ap75")},
        "train_s": round(sum(row["seconds"] for row in history)),
        **json.loads((run.path / "environment.json").read_text()),
    }
    common.publish(line, args.ledger)


if __name__ == "__main__":
    main()
