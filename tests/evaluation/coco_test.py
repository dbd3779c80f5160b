"""COCO AP against figures derived by hand and against pycocotools run by itself on files."""

import contextlib
import copy
import io
import json
import math
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kyolo.callbacks import CocoAP
from kyolo.evaluation.coco import coco_metrics, coco_results, evaluate


def truth_of(boxes, labels=None, *, crowds=(), image_ids=(7,), category_ids=(3, 9)):
    """COCO json with all boxes (xywh) in the first image."""
    labels = labels or [0] * len(boxes)
    annotations = [
        {
            "id": i + 1,
            "image_id": image_ids[0],
            "category_id": category_ids[labels[i]],
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": int(i in crowds),
        }
        for i, box in enumerate(boxes)
    ]
    return {
        "images": [{"id": image_id, "width": 100, "height": 100} for image_id in image_ids],
        "annotations": annotations,
        "categories": [{"id": id_, "name": f"class {id_}"} for id_ in category_ids],
    }


def result(box, score=0.9, *, image_id=7, category_id=3):
    return {"image_id": image_id, "category_id": category_id, "bbox": list(box), "score": score}


class CocoMetricsTest(tf.test.TestCase):
    def test_one_box_found_loosely(self):
        # Widths 50 and 31, heights equal: IoU 0.62 reaches 3 of the 10 thresholds (0.50, 0.55, 0.60). Its area 2,000 is
        # between 32^2 and 96^2. Class 9 has no truth.
        metrics = coco_metrics(truth_of([(10, 10, 50, 40)]), [result((10, 10, 31, 40))])
        self.assertAllClose(metrics["ap"], 0.3)
        self.assertAllClose(metrics["ap50"], 1.0)
        self.assertAllClose(metrics["ap75"], 0.0)
        self.assertAllClose(metrics["ap_medium"], 0.3)
        self.assertIsNone(metrics["ap_small"])
        self.assertIsNone(metrics["ap_large"])
        self.assertAllClose(metrics["per_class"]["class 3"], 0.3)
        self.assertIsNone(metrics["per_class"]["class 9"])

    def test_false_alarm_above_the_hit(self):
        # The better score is wrong: precision is 1/2 at every recall.
        metrics = coco_metrics(
            truth_of([(10, 10, 20, 20)]), [result((60, 60, 20, 20), 0.9), result((10, 10, 20, 20), 0.8)]
        )
        self.assertAllClose(metrics["ap"], 0.5)

    def test_missed_box(self):
        # One of two boxes found: precision 1 up to recall 0.5, which is 51 of the 101 recall points.
        metrics = coco_metrics(truth_of([(10, 10, 20, 20), (60, 60, 20, 20)]), [result((10, 10, 20, 20))])
        self.assertAllClose(metrics["ap"], 51 / 101)

    def test_detection_on_a_crowd_counts_neither_way(self):
        truth = truth_of([(10, 10, 20, 20), (50, 50, 40, 40)], crowds=[1])
        metrics = coco_metrics(truth, [result((60, 60, 20, 20), 0.95), result((10, 10, 20, 20), 0.9)])
        self.assertAllClose(metrics["ap"], 1.0)

    def test_annotation_id_0_is_never_found(self):
        # As pycocotools has it, on purpose: our figures are equal to its figures.
        truth = truth_of([(10, 10, 20, 20)])
        truth["annotations"][0]["id"] = 0
        with self.assertWarnsRegex(UserWarning, "annotation id 0"):
            self.assertEqual(coco_metrics(truth, [result((10, 10, 20, 20))])["ap"], 0.0)

    def test_nothing_found_and_nothing_to_find(self):
        self.assertEqual(coco_metrics(truth_of([(10, 10, 20, 20)]), [])["ap"], 0.0)
        self.assertIsNone(coco_metrics(truth_of([]), [result((10, 10, 20, 20))])["ap"])

    def test_is_silent_and_leaves_its_arguments(self):
        truth, results = truth_of([(10, 10, 20, 20)]), [result((10, 10, 20, 20))]
        before = copy.deepcopy((truth, results))
        stdout = io.StringIO()
        with contextlib.redirect_stdout(stdout):
            coco_metrics(truth, results)
        self.assertEqual(stdout.getvalue(), "")
        self.assertEqual((truth, results), before)

    def test_results_keep_full_precision(self):
        score = np.float32(0.1)
        (found,) = coco_results(7, [[1, 2, 4, 8]], [score], [1], category_ids=(3, 9))
        self.assertEqual(found, {"image_id": 7, "category_id": 9, "bbox": [1, 2, 3, 6], "score": float(score)})
        self.assertEqual(coco_results(7, np.zeros([0, 4]), [], [], category_ids=(3, 9)), [])


@keras.saving.register_keras_serializable("kyolo_tests")
class Recall(keras.Model):
    """Stands in for a detector: an image's first pixel is the row of the table with its boxes and scores."""

    def __init__(self, boxes, scores):
        super().__init__()
        self.boxes, self.scores = tf.constant(boxes, tf.float32), tf.constant(scores, tf.float32)
        self.gain = self.add_weight(shape=(), initializer="ones", name="gain")
        self.traces = 0

    def call(self, images, training=False):
        del training
        self.traces += 1
        return {"row": tf.cast(images[:, 0, 0, 0], tf.int32)}

    def decode(self, outputs, image_size):
        del image_size
        return tf.gather(self.boxes, outputs["row"]), tf.gather(self.scores, outputs["row"]) * self.gain

    def ema_weights(self):
        return contextlib.nullcontext()

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        del x, y, y_pred, sample_weight, training
        return self.gain * 0.0


def random_set(num_images=11, batch_size=4, num_classes=3):
    """A data set of blank images, its truth with sparse ids and crowds, and a detector that half knows it."""
    rng = np.random.default_rng(0)
    image_ids, category_ids = 100 + 7 * np.arange(num_images), (2, 5, 90)
    corners = rng.uniform(0, 60, (num_images, 8, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 60, corners.shape)], axis=-1)  # 128 x 64 originals
    boxes = np.minimum(boxes, [128, 64, 128, 64])
    labels = rng.integers(0, num_classes, boxes.shape[:2])
    annotations = [
        {"image_id": int(image_ids[i]), "category_id": category_ids[labels[i, g]], "iscrowd": int(g == 7)}
        | {"bbox": [*boxes[i, g, :2], *(boxes[i, g, 2:] - boxes[i, g, :2])], "id": 8 * i + g + 1}
        for i, g in np.ndindex(labels.shape)
    ]
    for annotation in annotations:
        annotation["area"] = float(annotation["bbox"][2] * annotation["bbox"][3])
    truth = {
        "images": [{"id": int(id_), "width": 128, "height": 64} for id_ in image_ids],
        "annotations": annotations,
        "categories": [{"id": id_, "name": str(id_)} for id_ in category_ids],
    }
    # 128 x 64 originals in 64 x 64 inputs: scale 1/2, 16 rows of padding above.
    noisy = np.concatenate([boxes, boxes], axis=1) + rng.normal(0, 2, (num_images, 16, 4))
    scores = rng.uniform(0, 0.5, (num_images, 16, num_classes))
    scores[:, :8] += np.eye(num_classes)[labels] * 0.5
    detector = Recall(noisy / 2 + [0, 16, 0, 16], scores)
    images = np.zeros([num_images, 64, 64, 3], np.uint8) + np.arange(num_images, dtype=np.uint8)[:, None, None, None]
    targets = {
        "image_id": image_ids.astype(np.int64),
        "letterbox": np.tile(np.float32([0.5, 0.5, 0, 16]), (num_images, 1)),
        "size": np.tile(np.int32([64, 128]), (num_images, 1)),
    }
    dataset = tf.data.Dataset.from_tensor_slices((images, targets)).batch(batch_size)
    dataset.index = SimpleNamespace(
        truth=truth, category_ids=category_ids, num_images=num_images, class_names=("2", "5", "90")
    )
    return detector, dataset, noisy, scores


class EvaluateTest(tf.test.TestCase, parameterized.TestCase):
    def test_equals_pycocotools_on_files(self):
        # With IoU 1 nothing is suppressed: every (point, class) is a detection, and the results can be written here.
        detector, dataset, boxes, scores = random_set()
        truth = dataset.index.truth
        clipped = np.clip(boxes, 0, [128, 64, 128, 64])
        results = [
            {
                "image_id": truth["images"][i]["id"],
                "category_id": dataset.index.category_ids[k],
                "bbox": [*clipped[i, a, :2], *(clipped[i, a, 2:] - clipped[i, a, :2])],
                "score": scores[i, a, k],
            }
            for i, a, k in np.ndindex(scores.shape)
            if scores[i, a, k] > 0.001
        ]
        truth_file, results_file = (f"{self.get_temp_dir()}/{name}.json" for name in ("truth", "results"))
        for path, content in ((truth_file, truth), (results_file, results)):
            with open(path, "w", encoding="utf-8") as file:
                json.dump(content, file)
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(truth_file)
            expected = COCOeval(coco, coco.loadRes(results_file), "bbox")
            expected.evaluate()
            expected.accumulate()
            expected.summarize()

        metrics = evaluate(detector, dataset, iou=1.0)
        self.assertBetween(metrics["ap"], 0.1, 0.9)
        names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
        for name, value in zip(names, expected.stats, strict=False):
            self.assertAllClose(metrics[name] if value >= 0 else -1, value, rtol=1e-5)
        self.assertAllClose(np.mean(list(metrics["per_class"].values())), metrics["ap"], rtol=1e-5)
        self.assertEqual(metrics["protocol"]["iou"], 1.0)

    def test_settings_reach_the_suppression(self):
        detector, dataset, _, _ = random_set()
        every, few = evaluate(detector, dataset), evaluate(detector, dataset, max_detections=1)
        self.assertLess(few["ap"], every["ap"])
        self.assertEqual(few["protocol"]["max_detections"], 1)
        self.assertIsNone(json.loads(json.dumps(evaluate(detector, dataset, confidence=1.0)))["ap_large"])

    def test_one_trace_though_the_last_batch_is_smaller(self):
        detector, dataset, _, _ = random_set(num_images=11, batch_size=4)
        evaluate(detector, dataset)
        self.assertEqual(detector.traces, 1)


class RefusalTest(tf.test.TestCase):
    def test_classes_in_another_order(self):
        detector, dataset, _, _ = random_set(num_images=4)
        detector.class_names = dataset.index.class_names[::-1]
        with self.assertRaisesRegex(ValueError, "class_names: expected .* as in the detector, got"):
            evaluate(detector, dataset)

    def test_an_image_that_comes_twice(self):
        detector, dataset, _, _ = random_set(num_images=4)
        with self.assertRaisesRegex(ValueError, "dataset: expected each image once"):
            evaluate(detector, dataset.repeat(2))


class CocoAPTest(tf.test.TestCase):
    def test_logs(self):
        detector, dataset, _, _ = random_set(num_images=4)
        detector.compile("sgd")
        callback = CocoAP(dataset, every=2)
        train = dataset.map(lambda images, targets: (images, targets["size"]))
        history = detector.fit(train, epochs=3, shuffle=False, verbose=0, callbacks=[callback]).history
        # Epochs 2 and 3 (the last one is always scored) of 3.
        expected = evaluate(detector, dataset)
        for name in ("ap", "ap50", "ap75"):
            self.assertAllClose(history[f"val_{name}"], [expected[name]] * 2)
        self.assertEqual(callback.metrics, expected)

    def test_undefined_is_nan(self):
        detector, dataset, _, _ = random_set(num_images=4)
        dataset.index.truth["annotations"].clear()
        detector.compile("sgd")
        train = dataset.map(lambda images, targets: (images, targets["size"]))
        history = detector.fit(train, epochs=1, shuffle=False, verbose=0, callbacks=[CocoAP(dataset)]).history
        self.assertTrue(math.isnan(history["val_ap"][0]))


if __name__ == "__main__":
    tf.test.main()
