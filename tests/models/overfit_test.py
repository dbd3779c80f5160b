import keras
import numpy as np
import pytest
import tensorflow as tf

import kyolo
from kyolo.config import BackboneConfig, ModelConfig
from tests import oracles

SIZE = (64, 96)  # height, width: not square, so that an exchange of the two shows
COLOURS = np.uint8([[230, 40, 40], [40, 220, 60], [50, 70, 240]])
# Boxes xyxy and labels of two images: wide and high ones, and all classes. None is small: the first predictions are
# 120 px wide, and a truth that overlaps them by a few per cent gets targets near 0 (u^6 against the assigner's 1e-9)
# for as long as nothing else teaches the network to predict smaller boxes.
TRUTHS = (
    ([(4, 6, 54, 40), (58, 8, 92, 60)], [0, 2]),
    ([(8, 4, 44, 54), (50, 20, 94, 58)], [1, 0]),
)
STEPS = 400  # with 250 the last of the four truths is learnt on one number of threads and not on another


def drawn():
    """The two images with filled rectangles, and their truths padded to four."""
    images = np.random.default_rng(0).integers(90, 140, (2, *SIZE, 3)).astype("uint8")
    y_true = {
        "boxes": np.zeros((2, 4, 4), "float32"),
        "labels": np.zeros((2, 4), "int32"),
        "mask": np.zeros((2, 4), bool),
    }
    for i, (boxes, labels) in enumerate(TRUTHS):
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
            images[i, y1:y2, x1:x2] = COLOURS[label]
        y_true["boxes"][i, :2], y_true["labels"][i, :2], y_true["mask"][i, :2] = boxes, labels, True
    return images, y_true


class OverfitTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_learns_two_images_by_heart(self):
        """The whole way from pixels to boxes: wrong order, unit, label or sign anywhere and nothing is learned."""
        images, y_true = drawn()
        config = ModelConfig(num_classes=3, levels=("P3", "P4"), backbone=BackboneConfig(size="p"))
        detector = kyolo.build_detector(config)
        schedule = keras.optimizers.schedules.CosineDecay(2e-3, STEPS)
        detector.compile(keras.optimizers.AdamW(schedule, weight_decay=0.0))
        data = tf.data.Dataset.from_tensors((images, y_true)).repeat()
        losses = detector.fit(data, epochs=5, steps_per_epoch=STEPS // 5, verbose=0).history["loss"]
        self.assertLess(losses[-1], 0.35 * losses[0])
        boxes, scores = (x.numpy() for x in detector.decode(detector(images, training=False), SIZE))
        for i, (truths, labels) in enumerate(TRUTHS):
            for truth, label in zip(truths, labels, strict=True):
                hit = (oracles.iou(boxes[i], np.float64(truth)) > 0.8) & (scores[i].argmax(axis=-1) == label)
                self.assertGreater(scores[i][hit].max(initial=0), 0.5, msg=f"image {i}, truth {truth}")
            # And what is sure is right: no sure point lies elsewhere or names another class.
            for point in np.flatnonzero(scores[i].max(axis=-1) > 0.5):
                overlaps = oracles.iou(boxes[i, point], np.float64(truths))
                self.assertGreater(overlaps.max(), 0.6)
                self.assertEqual(scores[i, point].argmax(), labels[overlaps.argmax()])


if __name__ == "__main__":
    tf.test.main()
