"""AP of weighted images: equal to COCOeval on the same images, repeated as often as their weights say."""

import numpy as np
from absl.testing import parameterized

from kyolo.ablation.matches import Matches, match
from kyolo.evaluation.coco import coco_metrics
from tests.test_case import TestCase


def random_split(seed, images=12, classes=3, ties=True):
    """Ground truth with crowds and detections of which some fit, some repeat and some lie elsewhere."""
    random = np.random.default_rng(seed)
    truth = {
        "images": [{"id": 10 + 3 * i} for i in range(images)],
        "annotations": [],
        "categories": [{"id": 5 + k, "name": str(k)} for k in range(classes)],
    }
    results = []
    for image in truth["images"]:
        for _ in range(random.integers(0, 7)):
            x, y, width, height = random.uniform(5, 100, 4)
            category = 5 + int(random.integers(classes))
            annotation = {
                "id": len(truth["annotations"]) + 1,
                "image_id": image["id"],
                "category_id": category,
                "bbox": [x, y, width, height],
                "area": width * height,
                "iscrowd": int(random.random() < 0.15),
            }
            truth["annotations"].append(annotation)
            for _ in range(random.integers(0, 4)):
                box = np.maximum(random.normal([x, y, width, height], 6), 1).tolist()
                score = float(random.integers(1, 20) / 20 if ties else random.random())
                results.append({"image_id": image["id"], "category_id": category, "bbox": box, "score": score})
    return truth, results


def repeated(truth, results, weights):
    """The same split with every image as often as its weight says, as images of their own."""
    new = {"images": [], "annotations": [], "categories": truth["categories"]}
    detections = []
    for image, weight in zip(truth["images"], weights, strict=True):
        for _ in range(weight):
            number = len(new["images"]) + 1
            new["images"].append({"id": number})
            for annotation in truth["annotations"]:
                if annotation["image_id"] == image["id"]:
                    new["annotations"].append({**annotation, "image_id": number, "id": len(new["annotations"]) + 1})
            detections += [{**each, "image_id": number} for each in results if each["image_id"] == image["id"]]
    return new, detections


class MatchesTest(TestCase):
    @parameterized.parameters(range(8))
    def test_equals_cocoeval(self, seed):
        truth, results = random_split(seed)
        (ap,) = match(truth, results).average_precision(np.ones((1, 12)))
        self.assertAlmostEqual(ap, coco_metrics(truth, results)["ap"], places=9)

    @parameterized.parameters(range(8))
    def test_weights_repeat_images(self, seed):
        """Without equal scores in one image: COCOeval would alternate the copies of these."""
        truth, results = random_split(seed, ties=False)
        weights = np.random.default_rng(seed).multinomial(12, [1 / 12] * 12, size=3)
        found = match(truth, results).average_precision(weights)
        for each, ap in zip(weights, found, strict=True):
            expected = coco_metrics(*repeated(truth, results, each))["ap"]
            self.assertAlmostEqual(ap, expected, places=6)

    def test_a_perfect_detector(self):
        truth, _ = random_split(3)
        results = [{**each, "score": 1.0} for each in truth["annotations"] if not each["iscrowd"]]
        self.assertEqual(match(truth, results).average_precision(np.ones((1, 12))).tolist(), [1.0])

    def test_nothing_to_find_is_undefined(self):
        truth, results = random_split(0)
        truth["annotations"].clear()
        self.assertTrue(np.isnan(match(truth, results).average_precision(np.ones((2, 12)))).all())

    def test_no_detections(self):
        truth, _ = random_split(0)
        self.assertEqual(match(truth, []).average_precision(np.ones((1, 12))).tolist(), [0.0])

    def test_a_file_keeps_them(self):
        matches = match(*random_split(1))
        matches.save(self.folder / "matches.npz")
        loaded = Matches.load(self.folder / "matches.npz")
        for name, value in vars(matches).items():
            np.testing.assert_array_equal(getattr(loaded, name), value)
