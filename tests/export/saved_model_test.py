"""The SavedModel: alone in a process without kyolo, it gives the detections of the Keras model."""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kyolo.data import letterbox, read_image
from kyolo.errors import InputError
from kyolo.evaluation.detect import NMSSettings, Predictor
from kyolo.export import ExportError, to_saved_model
from tests.export.lively import CLASS_NAMES, IMAGE_SIZE, TinyDetector, lively_detector, random_images

SETTINGS = {"confidence": 0.52, "iou": 0.5, "max_detections": 20}
STRANGER = """
import sys
import numpy as np
import tensorflow as tf

signatures = tf.saved_model.load(sys.argv[1]).signatures
images = np.load(sys.argv[2])
found = {name: signatures["serving_default"](images=tf.constant(images[name])) for name in images.files}
files = [tf.io.encode_png(images["a"][0]), tf.io.encode_png(images["b"][0])]
files += [tf.io.read_file(path) for path in sys.argv[6:]]
found["encoded"] = signatures["encoded"](images=tf.stack(files))
found["raw"] = signatures["raw"](images=tf.constant(np.load(sys.argv[4])))
np.savez(sys.argv[3], **{f"{name}/{key}": value for name in found for key, value in found[name].items()})
assert not {"kyolo", "keras_cv"} & set(sys.modules)  # TensorFlow itself imports keras
"""


class SavedModelTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.detector = lively_detector()
        cls.images = list(random_images())
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.path = cls.folder / "new" / "exported"
        cls.report = to_saved_model(cls.detector, cls.path, images=cls.images, **SETTINGS)

    def expected(self, image):
        network_input, parameters = letterbox(image, IMAGE_SIZE)
        predictor = Predictor(self.detector, NMSSettings(**SETTINGS))
        (detections,) = predictor.predict([(network_input[None], parameters[None], [image.shape[:2]])])
        return detections

    @pytest.mark.slow
    def test_in_a_process_without_kyolo(self):
        # Batches of one, one and two images, of three sizes.
        batches = {"a": self.images[0][None], "b": self.images[1][None], "c": np.stack([self.images[2]] * 2)}
        np.savez(self.folder / "images.npz", **batches)
        files = [self.folder / "image.bmp", self.folder / "image.jpg"]
        for file in files:
            Image.fromarray(self.images[2]).save(file)
        raw = np.random.default_rng(0).uniform(0, 255, (2, 64, 32, 3)).astype("float32")
        np.save(self.folder / "raw.npy", raw)
        arrays = [self.folder / name for name in ("images.npz", "found.npz", "raw.npy")]
        subprocess.run(
            [sys.executable, "-c", STRANGER, self.path / "1", *arrays, "--", *files],
            cwd=self.folder,
            check=True,
            capture_output=True,
        )
        found = np.load(self.folder / "found.npz")
        for name, batch in batches.items():
            for i, image in enumerate(batch):
                expected = self.expected(image)
                n = len(expected["scores"])
                self.assertGreater(n, 0)
                self.assertEqual(found[f"{name}/num_detections"][i], n)
                self.assertEqual(found[f"{name}/labels"].dtype, np.int32)
                for key, values in expected.items():
                    padded = found[f"{name}/{key}"][i]
                    self.assertLen(padded, 20)
                    self.assertAllClose(padded[:n], values, atol=1e-3)
                    self.assertAllEqual(padded[n:], np.zeros_like(padded[n:]))
        # Files give the detections of their pixels, a JPEG's as kyolo itself decodes it.
        for i, image in enumerate([*self.images[:2], *map(read_image, files)]):
            expected = self.expected(image)
            self.assertEqual(found["encoded/num_detections"][i], len(expected["scores"]))
            for key, values in expected.items():
                self.assertAllClose(found[f"encoded/{key}"][i][: len(values)], values, atol=1e-3)
        boxes, scores = self.detector.decode(self.detector(raw, training=False), image_size=(64, 32))
        self.assertAllClose(found["raw/boxes"], boxes, atol=1e-3)
        self.assertAllClose(found["raw/scores"], scores, atol=1e-4)

    def test_report(self):
        self.assertEqual((self.report.images, self.report.unmatched), (3, 0))
        self.assertEqual(self.report.compared, sum(len(self.expected(image)["scores"]) for image in self.images))

    def test_nothing_of_training_is_in_it(self):
        self.assertNotIn(b"silu_gradient", (self.path / "1/saved_model.pb").read_bytes())

    def test_contract_lies_beside_it(self):
        contract = json.loads((self.path / "1/assets.extra/detector.json").read_text())
        self.assertEqual(
            contract,
            {"class_names": list(CLASS_NAMES), "image_size": [64, 96], "fit": "letterbox", "multi_label": False}
            | SETTINGS,
        )

    def test_an_output_that_exists_is_refused(self):
        before = sorted(self.path.rglob("*"))
        with self.assertRaisesRegex(InputError, "one that exists"):
            to_saved_model(self.detector, self.path)
        self.assertEqual(sorted(self.path.rglob("*")), before)
        self.assertLen(list(self.path.parent.iterdir()), 1)

    def test_a_full_disk_is_an_input_error_that_names_the_output(self):
        kept = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, kept[1]))  # TensorFlow's write fails, as on a full disk.
        path = self.folder / "full" / "exported"
        try:
            with self.assertRaisesRegex(InputError, f"^Cannot write {path}: .* got 'File too large'"):
                to_saved_model(TinyDetector(), path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, kept)
        self.assertFalse(path.parent.exists())

    def test_stretched_input(self):
        settings = {"images": self.images}
        report = to_saved_model(
            TinyDetector(image_fit="stretch"), self.folder / "stretched", **settings, confidence=0.55
        )
        self.assertEqual(report.unmatched, 0)
        self.assertGreater(report.compared, 10)

    def test_an_export_that_differs_is_not_kept(self):
        # A predictor's graph is as wrong as the export's: the weights change between the two.
        class Drifting(TinyDetector):
            def decode(self, outputs, image_size):
                boxes, scores = super().decode(outputs, image_size)
                self.graph_error += 0.5
                return boxes, scores

        path = self.folder / "wrong" / "exported"
        settings = {"images": self.images}
        with self.assertRaisesRegex(ExportError, "detections that only one of them gives"):
            to_saved_model(Drifting(), path, **settings, confidence=0.55)
        self.assertFalse(path.parent.exists())


if __name__ == "__main__":
    tf.test.main()
