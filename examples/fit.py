"""Train with Keras' own `fit`: any optimizer, any loss, any callback.

python examples/fit.py path/to/set best.keras --epochs 60 --image-size 320
"""

import argparse

import keras

import kyolo


def main(argv: list[str] | None = None) -> dict:
    """Train a detector on a data set, save the best one, and return Keras' history."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of a data set")
    parser.add_argument("output", help=".keras file to write")
    parser.add_argument("--size", default="n", help="size of YOLOv8 (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    arguments = parser.parse_args(argv)

    options = {"image_size": arguments.image_size, "batch_size": arguments.batch_size}
    train = kyolo.data.make_dataset(arguments.data, "train", **options)
    val = kyolo.data.make_dataset(arguments.data, "val", **options)
    detector = kyolo.YOLOv8(arguments.size, class_names=train.class_names, image_size=arguments.image_size)
    detector.compile(keras.optimizers.AdamW(1e-3), kyolo.losses.DetectionLoss(box="siou"), ema_decay=0.9999)
    best = keras.callbacks.ModelCheckpoint(arguments.output, monitor="val_ap", mode="max", save_best_only=True)
    callbacks = [kyolo.callbacks.CocoAP(val), best]
    history = detector.fit(train, epochs=arguments.epochs, validation_data=val, callbacks=callbacks).history
    print(f"best AP {max(history['val_ap']):.3f}: {arguments.output}")
    return history


if __name__ == "__main__":
    main()
