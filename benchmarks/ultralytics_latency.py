"""Time of one image: kyolo's `.tflite` files, and ONNX Runtime with Ultralytics' export, in turn; prints one JSON line.

python benchmarks/ultralytics_latency.py --yolo ENV/bin/yolo --weights best.pt --files FILES --output FOLDER

`--weights` is a YOLOv8-n that `ultralytics_accuracy.py` trained, `--files` the folder that
`kyolo benchmark --run RUN --output FILES` keeps. ONNX Runtime runs in ENV, where it is installed.
"""

import argparse
import json
import statistics
import subprocess
import time
from pathlib import Path

import common
import ultralytics_program as ultralytics

# Times so many runs whenever it is told a number.
ONNX_RUNTIME = """
import json, sys, time
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[2])
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
(given,) = session.get_inputs()
image = np.random.default_rng(0).random(given.shape).astype(np.float32)
for line in sys.stdin:
    seconds = []
    for _ in range(int(line)):
        start = time.perf_counter()
        session.run(None, {given.name: image})
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds), flush=True)
"""


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--yolo", required=True, help="its program, ENV/bin/yolo")
    parser.add_argument("--weights", type=Path, required=True, help="weights of Ultralytics, .pt")
    parser.add_argument("--files", type=Path, required=True, help="folder with kyolo's .tflite files")
    parser.add_argument("--output", type=Path, required=True, help="folder for the .onnx")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=10, help="of each in a round")
    parser.add_argument("--ledger", type=Path, help="file to append the line to, in benchmarks/results/")
    args = parser.parse_args()

    import numpy as np

    from kyolo.export import TFLiteDetector, TFLiteEndToEnd
    from kyolo.training import describe_environment

    image = np.random.default_rng(0).integers(0, 256, (args.image_size, args.image_size, 3), dtype=np.uint8)
    calls = {}
    paths = sorted(args.files.glob("tflite_*.tflite"))
    if not paths:
        parser.error(f"--files {args.files}: expected files of kyolo benchmark --output, received none")
    for path in paths:
        kind = TFLiteEndToEnd if path.stem.endswith("_nms") else TFLiteDetector
        calls[path.stem] = kind(path, num_threads=args.threads).run
    seconds = {name: [] for name in ("onnxruntime", *calls)}
    command = [Path(args.yolo).with_name("python"), "-c", ONNX_RUNTIME, export_onnx(args), str(args.threads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        for number in range(args.rounds + 1):  # the first warms up
            spans = {"onnxruntime": ask(peer, args.runs)}
            spans |= {name: time_runs(call, image, args.runs) for name, call in calls.items()}
            for name in seconds:
                seconds[name] += spans[name] if number else []
        peer.stdin.close()
    medians = {name: 1e3 * statistics.median(spans) for name, spans in seconds.items()}
    common.publish(
        {
            "peer": f"ultralytics {ultralytics.version(args.yolo)}",
            "benchmark": "latency_against_onnxruntime",
            "image_size": args.image_size,
            "threads": args.threads,
            "median_ms": {name: round(value, 2) for name, value in medians.items()},
            "ratio": {name: round(value / medians["onnxruntime"], 3) for name, value in medians.items()},
            "command": ultralytics.command_line(args.yolo),
            **describe_environment(),
        },
        args.ledger,
    )


def export_onnx(args):
    """Has Ultralytics export its weights; they are copied first, as it writes beside them."""
    args.output.mkdir(parents=True, exist_ok=True)
    weights = args.output / "detector.pt"
    weights.write_bytes(args.weights.read_bytes())
    ultralytics.run(args.yolo, "export", args.output / "run", model=weights, format="onnx", imgsz=args.image_size)
    return weights.with_suffix(".onnx")


def ask(peer, runs):
    """Seconds of as many runs in the other process."""
    peer.stdin.write(f"{runs}\n")
    peer.stdin.flush()
    return json.loads(peer.stdout.readline())


def time_runs(call, image, runs):
    """Seconds of as many calls."""
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        call(image)
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
