"""Time and memory of the assigner alone, on random objects and predictions; prints one JSON line.

python benchmarks/assigner.py --batch-size 8 --image-size 320 --objects 32
python benchmarks/assigner.py --batch-size 16 --image-size 640 --objects 300 --assigner dense
"""

import argparse
import statistics
import time
from pathlib import Path

import common


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--objects", type=int, default=32, help="in each image")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--assigner", choices=("kyolo", "dense"), default="kyolo", help="dense: the yardstick below")
    parser.add_argument("--calls", type=int, default=30)
    parser.add_argument("--ledger", type=Path, help="file to append the line to")
    args = parser.parse_args()

    import tensorflow as tf

    from kyolo.assigner import TaskAlignedAssigner
    from kyolo.training import describe_environment

    before = common.peak_memory_gb()
    scene = random_scene(args)
    assign = TaskAlignedAssigner(args.classes) if args.assigner == "kyolo" else dense_assigner
    compiled = tf.function(lambda *tensors: tuple(assign(*tensors)))
    compiled(*scene)
    seconds = []
    for _ in range(args.calls):
        start = time.perf_counter()
        found = compiled(*scene)
        found[-1].numpy()  # waits for the last result
        seconds.append(time.perf_counter() - start)
    line = {"benchmark": "assigner", **{name: getattr(args, name) for name in ("assigner", "batch_size", "image_size")}}
    line |= {
        "objects": args.objects,
        "classes": args.classes,
        "positives": int(tf.reduce_sum(tf.cast(found[-1], "int32"))),
    }
    line |= {"median_ms": round(1e3 * statistics.median(seconds), 2), "fastest_ms": round(1e3 * min(seconds), 2)}
    line |= {"memory_before_gb": round(before, 2), "peak_memory_gb": round(common.peak_memory_gb(), 2)}
    common.publish({**line, "command": common.command_line(), **describe_environment()}, args.ledger)


def random_scene(args):
    """Objects of 2 to 32 % of the image, and a prediction near its point everywhere: an assigner's arguments."""
    import numpy as np
    import tensorflow as tf

    from kyolo.boxes import distances_to_boxes, make_anchor_points

    rng = np.random.default_rng(0)
    points, strides = make_anchor_points((args.image_size, args.image_size), (8, 16, 32))
    low = 0.9 * rng.random((args.batch_size, args.objects, 2))
    gt_boxes = np.concatenate([low, low + 0.02 + 0.3 * rng.random(low.shape)], axis=-1) * args.image_size
    distances = (0.5 + 6 * rng.random((args.batch_size, len(points), 4))) * np.float32(strides)[:, None]
    scores = rng.random((args.batch_size, len(points), args.classes))
    return (
        tf.constant(scores, "float32"),
        tf.cast(distances_to_boxes(np.float32(distances), points), "float32"),
        points,
        tf.constant(rng.integers(0, args.classes, low.shape[:2]), "int32"),
        tf.constant(gt_boxes, "float32"),
        tf.ones(low.shape[:2], bool),
    )


def dense_assigner(pred_scores, pred_boxes, anchor_points, gt_labels, gt_boxes, gt_mask):
    """The same assignment as usually written: every quantity for every object and every point, (B, G, A)."""
    import tensorflow as tf

    from kyolo.boxes import ciou

    num_points, num_classes = pred_scores.shape[1:]
    low, high = tf.split(gt_boxes[:, :, None], 2, axis=-1)
    margin = tf.reduce_min(tf.minimum(anchor_points - low, high - anchor_points), axis=-1)
    inside = (margin > 1e-9) & gt_mask[:, :, None]
    overlaps = tf.where(inside, tf.maximum(ciou(gt_boxes[:, :, None], pred_boxes[:, None]), 0), 0)
    scores = tf.matmul(tf.one_hot(gt_labels, num_classes), pred_scores, transpose_b=True)
    alignment = scores**0.5 * overlaps**6
    _, best = tf.math.top_k(alignment, 10)
    chosen = (tf.reduce_sum(tf.one_hot(best, num_points, dtype="int8"), axis=2) > 0) & inside
    contested = tf.reduce_sum(tf.cast(chosen, "int32"), axis=1, keepdims=True) > 1
    winner = tf.argmax(tf.where(inside, overlaps, -1), axis=1)
    chosen = tf.where(contested, tf.transpose(tf.one_hot(winner, gt_boxes.shape[1], True, False), [0, 2, 1]), chosen)
    alignment, overlaps = (tf.where(chosen, value, 0) for value in (alignment, overlaps))
    share = tf.reduce_max(overlaps, axis=2, keepdims=True) / (tf.reduce_max(alignment, axis=2, keepdims=True) + 1e-9)
    owner = tf.argmax(chosen, axis=1)
    labels, boxes = tf.gather(gt_labels, owner, batch_dims=1), tf.gather(gt_boxes, owner, batch_dims=1)
    target = tf.one_hot(labels, num_classes) * tf.reduce_max(alignment * share, axis=1)[..., None]
    return labels, boxes, target, tf.reduce_any(chosen, axis=1)


if __name__ == "__main__":
    main()
