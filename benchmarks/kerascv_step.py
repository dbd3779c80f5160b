"""The training step of KerasCV's own YOLOv8 detector, to hold train_step.py against; prints one JSON line.

python benchmarks/kerascv_step.py --image-size 320 --batch-size 8 --classes 3

The same size (n), images, number of boxes and TensorFlow settings; KerasCV's losses, and Keras' plain AdamW.
"""

import argparse
import statistics
from pathlib import Path

import common
from train_step import random_batch


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--ledger", type=Path, help="file to append the line to")
    args = parser.parse_args()

    import keras
    import keras_cv
    import numpy as np
    import tensorflow as tf

    from kyolo.models.backbones.yolov8 import SIZES
    from kyolo.training import describe_environment

    size = SIZES["n"]
    backbone = keras_cv.models.YOLOV8Backbone(
        stackwise_channels=list(size.channels),
        stackwise_depth=list(size.depths),
        include_rescaling=True,
        input_shape=(args.image_size, args.image_size, 3),
    )
    detector = keras_cv.models.YOLOV8Detector(
        num_classes=args.classes, bounding_box_format="xyxy", backbone=backbone, fpn_depth=size.neck_depth
    )
    detector.compile(
        optimizer=keras.optimizers.AdamW(1e-3),
        classification_loss="binary_crossentropy",
        box_loss="ciou",
        jit_compile=False,
    )
    images, truth = random_batch(np.random.default_rng(0), args.batch_size, args.image_size, args.classes)
    real = truth["mask"][0]  # the same number in every image, and no padding
    batch = images.astype("float32"), {"boxes": truth["boxes"][:, real], "classes": truth["labels"][:, real]}
    timer = common.step_timer()
    detector.fit(tf.data.Dataset.from_tensors(batch).repeat(args.steps), epochs=1, verbose=0, callbacks=[timer])
    common.publish(
        {
            "benchmark": "kerascv_step",
            "image_size": args.image_size,
            "batch_size": args.batch_size,
            "classes": args.classes,
            "precision": "float32",
            "weights": sum(int(np.prod(variable.shape)) for variable in detector.trainable_variables),
            "step_ms": round(1e3 * statistics.median(timer.seconds[2:]), 1),
            "first_step_s": round(timer.seconds[0], 1),
            "peak_memory_gb": round(common.peak_memory_gb(), 2),
            "command": common.command_line(),
            **describe_environment(),
        },
        args.ledger,
    )


if __name__ == "__main__":
    main()
