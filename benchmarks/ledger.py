"""Appends a finished run to the ledger of accuracy, one JSON line.

python benchmarks/ledger.py --run saved_models/bccd --command "kyolo train --config ..."
"""

import argparse
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

    common.publish({"command": args.command, **common.describe_run(args.run)}, args.ledger)


if __name__ == "__main__":
    main()
