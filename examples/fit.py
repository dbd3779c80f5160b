"""Training with Keras' own `fit`, for people who write their own script: any optimizer, any loss, any callback.

python examples/fit.py path/to/set detector.tflite --epochs 60 --image-size 320
"""

import argparse
import dataclasses
from pathlib import Path

import keras

import kyolo

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "yolov8_n.yaml"


def main(argv: list[str] | None = None) -> None:
    """Train a detector on a data set, and write it as a TFLite file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of a data set: {train,val}/*.jpg, annotations/instances_{train,val}.json")
    parser.add_argument("output", help=".tflite file to write")
    parser.add_argument("--config", default=CONFIG, help="which detector (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--image-size", type=int, default=320)
    arguments = parser.parse_args(argv)

    train, val = (
        kyolo.data.make_dataset(arguments.data, split, image_size=arguments.image_size, epochs=arguments.epochs)
        for split in ("train", "val")
    )
    model = kyolo.load_config(arguments.config).model
    detector = kyolo.build_detector(dataclasses.replace(model, num_classes=len(train.index.class_names)))
    loss = kyolo.losses.DetectionLoss(box=kyolo.losses.SIoULoss())
    detector.compile(optimizer=keras.optimizers.AdamW(1e-3), loss=loss, ema_decay=0.9999)
    detector.fit(train, validation_data=val, epochs=arguments.epochs, callbacks=[kyolo.evaluation.CocoAP(val)])
    image_size = (arguments.image_size, arguments.image_size)
    kyolo.export.to_tflite(detector, arguments.output, image_size=image_size, class_names=train.index.class_names)


if __name__ == "__main__":
    main()
