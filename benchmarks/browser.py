"""Time of the network in headless Chromium (LiteRT.js), beside that in Python, in turn; prints one JSON line.

python benchmarks/browser.py --model detector.tflite

Needs Debian's chromium, and `npm ci --prefix examples/web`.
"""

import argparse
import statistics
import time
from pathlib import Path

import common

WARM_UP = 5


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help=".tflite without --nms")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=50, help="of each in a round")
    parser.add_argument("--ledger", type=Path, help="file to append the line to, in benchmarks/results/")
    args = parser.parse_args()

    from kyolo.export import TFLiteDetector
    from kyolo.training import describe_environment
    from tests.web.browser import MISSING, served, use_page

    if MISSING:
        parser.error(f"expected {', '.join(MISSING)}, received none")
    python = TFLiteDetector(args.model, num_threads=1)
    seconds = {"python_1": []}
    with served(args.model) as url:
        for _ in range(args.rounds):
            seconds["python_1"] += time_python(python, args.runs)
            shown = use_page(url, runs=WARM_UP + args.runs)
            for threads, times in shown["network_ms"].items():
                seconds.setdefault(f"browser_{threads}", []).extend(each / 1e3 for each in times[WARM_UP:])
    medians = {name: 1e3 * statistics.median(times) for name, times in seconds.items()}
    common.publish(
        {
            "benchmark": "browser",
            "command": common.command_line(),
            "model": args.model.name,
            "bytes": args.model.stat().st_size,
            "image_size": python.image_size,
            "median_ms": {name: round(median, 2) for name, median in medians.items()},
            "of_python_1": {name: round(median / medians["python_1"], 3) for name, median in medians.items()},
            **describe_environment(),
        },
        args.ledger,
    )


def time_python(detector, runs):
    """Seconds of each run on one image."""
    import numpy as np

    image = np.random.default_rng(0).integers(0, 256, (*detector.image_size, 3), dtype=np.uint8)
    seconds = []
    for _ in range(WARM_UP + runs):
        start = time.perf_counter()
        detector.run(image)
        seconds.append(time.perf_counter() - start)
    return seconds[WARM_UP:]


if __name__ == "__main__":
    main()
