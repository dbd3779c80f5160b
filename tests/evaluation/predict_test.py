"""Prediction on files: what is found where, in order, and the same figures as `evaluate`."""

import contextlib
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kyolo.data import make_dataset
from kyolo.errors import InputError
from kyolo.evaluation import Predictor, coco_results, evaluate, find_images, predict_paths
from tests.export.lively import CLASS_NAMES, IMAGE_SIZE, TinyDetector, random_images

PROTOCOL = {"confidence": 0.001, "iou": 0.7, "max_detections": 300, "multi_label": True}


class PredictTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        rng = np.random.default_rng(0)
        truth = {"images": [], "annotations": []}
        truth["categories"] = [{"id": 10 * i + 3, "name": name} for i, name in enumerate(CLASS_NAMES)]
        (cls.folder / "val").mkdir()
        for i in range(7):
            (image,) = list(random_images(3, seed=i))[i % 3 : i % 3 + 1]
            height, width = image.shape[:2]
            (cls.folder / "val" / f"{i}.png").write_bytes(tf.io.encode_png(image).numpy())
            truth["images"].append({"id": 50 - i, "file_name": f"{i}.png", "height": height, "width": width})
            for _ in range(4):
                x, y = rng.uniform(0, [width - 30, height - 30])
                side = float(rng.uniform(15, 30))
                annotation = {"id": len(truth["annotations"]) + 1, "image_id": 50 - i, "iscrowd": 0}
                annotation["category_id"] = 10 * int(rng.integers(3)) + 3
                truth["annotations"].append(annotation | {"bbox": [x, y, side, side], "area": side * side})
        truth["annotations"][5]["iscrowd"] = 1
        (cls.folder / "annotations").mkdir()
        cls.truth_file = cls.folder / "annotations" / "instances_val.json"
        cls.truth_file.write_text(json.dumps(truth))
        cls.detector = TinyDetector()

    def test_one_path_needs_no_list(self):
        path = self.folder / "val" / "0.png"
        for paths in (path, str(path), [path]):
            self.assertEqual(find_images(paths), [str(path)])

    def test_a_small_call_after_a_large_one_computes_no_more(self):
        predictor = Predictor(self.detector)
        sizes = []
        detect, predictor._detect = predictor._detect, lambda *batch: sizes.append(len(batch[0])) or detect(*batch)
        image, letterbox = predictor.fit_image(np.zeros((48, 100, 3), "uint8"))
        for counts in ((3, 2), (1,)):
            batches = [([image] * n, [letterbox] * n, [(48, 100)] * n) for n in counts]
            self.assertLen(list(predictor.predict(batches)), sum(counts))
        self.assertEqual(sizes, [3, 3, 1])

    def predict(self, paths, **settings):
        return list(predict_paths(self.detector, paths, **settings))

    def test_equals_evaluate(self):
        # The predictions go through JSON, as from one process to another; the truth is the original file.
        paths = find_images([self.folder / "val"])
        lines = [json.dumps(found) for found in self.predict(paths, batch_size=3, **PROTOCOL)]
        truth = json.loads(self.truth_file.read_text())
        ids = {image["file_name"]: image["id"] for image in truth["images"]}
        category_ids = [category["id"] for category in truth["categories"]]
        results = []
        for found in map(json.loads, lines):
            image_id = ids[Path(found["image"]).name]
            results += coco_results(image_id, found["boxes"], found["scores"], found["labels"], category_ids)
        val = make_dataset(self.folder, "val", image_size=IMAGE_SIZE, batch_size=3)
        metrics = evaluate(self.detector, val, **PROTOCOL)
        self.assertGreater(metrics["ap"], 0.0)
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(str(self.truth_file))
            reference = COCOeval(truth, truth.loadRes(results), "bbox")  # pycocotools itself
            reference.evaluate()
            reference.accumulate()
            reference.summarize()
        for name, expected in zip(("ap", "ap50", "ap75"), reference.stats, strict=False):
            self.assertAlmostEqual(metrics[name], expected, delta=1e-9, msg=name)

    def test_yields_images_in_order(self):
        paths = [self.folder / "val" / f"{i}.png" for i in (4, 0, 2, 6, 1)]
        found = self.predict(paths, batch_size=2, confidence=0.55)
        self.assertEqual([one["image"] for one in found], [str(path) for path in paths])
        self.assertGreater(sum(len(one["boxes"]) for one in found), 5)
        for path, one in zip(paths, found, strict=True):
            height, width = tf.io.decode_png(path.read_bytes()).shape[:2]
            self.assertAllInRange(np.array(one["boxes"])[:, [0, 2]], 0, width)
            self.assertAllInRange(np.array(one["boxes"])[:, [1, 3]], 0, height)
            self.assertEqual(one["names"], [CLASS_NAMES[label] for label in one["labels"]])
            self.assertEqual(one["scores"], sorted(one["scores"], reverse=True))
            self.assertAllGreater(one["scores"], 0.55)
            (alone,) = self.predict([path], confidence=0.55)
            self.assertAllClose(one["boxes"], alone["boxes"], atol=1e-3)

    def test_boxes_in_the_padding_are_no_detections(self):
        class Padded(TinyDetector):
            """Finds one object in the padding above a wide image, and one in the image."""

            def decode(self, outputs, image_size):
                del image_size
                count = tf.shape(outputs)[0]
                boxes = tf.constant([[[10.0, 0.0, 60.0, 5.0], [10.0, 20.0, 60.0, 40.0]]])
                return tf.tile(boxes, [count, 1, 1]), tf.tile([[[0.9, 0, 0], [0.8, 0, 0]]], [count, 1, 1])

        # 192 x 48 pixels become 96 x 24 in the middle of 96 x 64: rows 0 to 20 are padding, and one pixel is half one.
        image = np.zeros((48, 192, 3), np.uint8)
        (self.folder / "wide.png").write_bytes(tf.io.encode_png(image).numpy())
        (found,) = predict_paths(Padded(), [self.folder / "wide.png"], max_detections=1)
        self.assertAllClose(found["boxes"], [[20, 0, 120, 40]])
        self.assertAllClose(found["scores"], [0.8])

    def test_nothing_found(self):
        (found,) = self.predict([self.folder / "val" / "0.png"], confidence=1.0)
        self.assertEqual({**found, "image": ""}, {"image": "", "boxes": [], "scores": [], "labels": [], "names": []})

    def test_no_image(self):
        with self.assertRaises(InputError):
            self.predict([self.truth_file])

    def test_find_images(self):
        val = self.folder / "val"
        names = [str(val / f"{i}.png") for i in range(7)]
        self.assertEqual(find_images([val]), names)
        self.assertEqual(find_images([val / "3.png", val]), [names[3], *names[:3], *names[4:]])
        self.assertEqual(find_images([str(self.folder / "**" / "[12].*")]), names[1:3])
        for missing in ([val / "9.png"], [self.folder / "annotations"], [str(val / "*.jpg")], []):
            with self.assertRaises(InputError):
                find_images(missing)


if __name__ == "__main__":
    tf.test.main()
