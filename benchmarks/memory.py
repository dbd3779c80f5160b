"""Memory of a training, evaluation included, which must not grow over the epochs; prints one JSON line.

python benchmarks/memory.py                # a narrow detector on a small generated set: minutes
python benchmarks/memory.py --config configs/yolov8_n.yaml --data $KYOLO_DATA/bccd --set data.image_size=320
"""

import argparse
import tempfile
from pathlib import Path
from unittest import mock

import common

TINY = (
    "model.backbone.size=p", "model.levels=[P4, P5]", "data.image_size=64", "train.batch_size=8",
    "evaluation.batch_size=8", "train.checkpoint_every=5",
)  # fmt: skip


def main():
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(common.ROOT / "configs" / "yolov8_n.yaml"))
    parser.add_argument("--data", help="folder of a data set; without one 64 images are drawn, for a narrow detector")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument(
        "--after", type=int, nargs="+", default=[2, 10, 25, 50], help="epochs after which it is measured"
    )
    parser.add_argument(
        "--ledger", type=Path, help="file to append the line to, such as benchmarks/results/speed.jsonl"
    )
    args = parser.parse_args()

    from kyolo.config import load_config
    from kyolo.data import write_shapes
    from kyolo.training import describe_environment, open_run, train
    from kyolo.training.recorder import RunRecorder

    memory = []
    on_epoch_end = RunRecorder.on_epoch_end

    def measured(*arguments):
        on_epoch_end(*arguments)
        memory.append(common.resident_memory_mb())

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(RunRecorder, "on_epoch_end", measured):
        data, tiny = args.data, ()
        if data is None:
            data, tiny = f"{folder}/shapes", TINY
            write_shapes(data, train=64, val=16, image_size=64)
        settings = [*tiny, f"train.epochs={args.epochs}", f"data.path={data}", *args.set]
        train(load_config(args.config, settings), f"{folder}/run")
        config = open_run(f"{folder}/run").config
    common.publish(
        {
            "benchmark": "memory",
            "data": Path(data).name,
            "image_size": config.data.image_size,
            "batch_size": config.train.batch_size,
            "precision": config.train.precision,
            "memory_mb_after_epoch": {epoch: memory[epoch - 1] for epoch in args.after if epoch <= len(memory)},
            "peak_memory_gb": round(common.peak_memory_gb(), 2),
            "command": common.command_line(),
            **describe_environment(),
        },
        args.ledger,
    )


if __name__ == "__main__":
    main()
