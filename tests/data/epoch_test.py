"""The train dataset as Keras sees it: finite epochs, each with its own order, whatever tf.data does to it."""

import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.data import Augmentation, make_dataset, write_shapes
from kyolo.data.train_stream import _Passes
from kyolo.fit_progress import FitProgress, fitting
from tests.data.streams import endless
from tests.test_case import TestCase

IMAGES, BATCH = 7, 3
STEPS = 3  # ceil(7 / 3) batches per epoch
MOSAIC = Augmentation(
    mosaic=1.0, close_mosaic=2, translate=0.0, scale=0.0, hue=0.0, saturation=0.0, value=0.0, flip_horizontal=0.0
)


class PassesTest(parameterized.TestCase):
    """Where a pass begins in the endless stream, and which of its batches have mosaic; an epoch has 10 batches."""

    def fit(self, epochs, passes, **options):
        """First step, and number of batches with mosaic, of each pass that begins in each epoch of a `fit`."""
        numbers, found = _Passes(10, close_mosaic=2), []
        with fitting(FitProgress(epochs, **options)) as progress:
            for epoch, count in enumerate(passes, start=progress.initial_epoch):
                progress.epoch = epoch
                for _ in range(count):
                    start, end = numbers.begin()
                    found.append((int(start), int(np.clip(end - start, 0, 10))))
        return found

    def test_one_pass_per_epoch(self):
        # Mosaic closes for the last 2 of 5 epochs.
        expected = [(0, 10), (10, 10), (20, 10), (30, 0), (40, 0)]
        self.assertEqual(self.fit(5, [1] * 5, num_batches=10), expected)
        self.assertEqual(self.fit(5, [1] * 5), expected)  # a cardinality that is not known
        self.assertEqual(self.fit(5, [1] * 5, num_batches=4), expected)  # take(4)
        self.assertEqual(self.fit(5, [1] * 2, initial_epoch=3, num_batches=10), expected[3:])
        self.assertEqual(self.fit(5, [1] * 5, num_batches=10, steps_per_epoch=10), expected)

    def test_a_pass_that_begins_early_is_the_next_one(self):
        # Where replicas read ahead, the first batch of an epoch is read within the epoch before.
        self.assertEqual(self.fit(4, [2, 1, 1], num_batches=10), [(0, 10), (10, 10), (20, 0), (30, 0)])

    def test_several_passes_per_epoch(self):
        expected = [(0, 10), (10, 10), (20, 0), (30, 0), (40, 0), (50, 0)]
        self.assertEqual(self.fit(3, [2] * 3, num_batches=20), expected)

    def test_steps_per_epoch_of_the_user(self):
        # 4 epochs of 6 steps: mosaic ends at step 12, within the second pass. The third begins at step 20, epoch 3.
        found = self.fit(4, [1, 1, 0, 1], steps_per_epoch=6)
        self.assertEqual(found, [(0, 10), (10, 2), (20, 0)])
        self.assertEqual(self.fit(8, [1], initial_epoch=2, steps_per_epoch=6), [(12, 10)])

    def test_another_set_in_the_same_epochs(self):
        # Of two sets one after the other, each sees one pass per epoch of 20 batches.
        found = self.fit(4, [1] * 4, num_batches=20)
        self.assertEqual([mosaic for _, mosaic in found], [10, 10, 0, 0])

    def test_passes_of_others_shift_the_training_by_one_epoch_at_most(self):
        """A validation on the training set reads it once more per epoch; 8 epochs, mosaic in the first 6."""
        for options in ({"num_batches": 10}, {"steps_per_epoch": 10}):
            starts, mosaic = zip(*self.fit(8, [3] * 8, **options)[::3], strict=True)
            self.assertTrue(all(10 * epoch <= start <= 10 * (epoch + 1) for epoch, start in enumerate(starts)))
            self.assertEqual(mosaic[:5] + mosaic[6:], (10,) * 5 + (0, 0))

    def test_shorter_than_close_mosaic(self):
        self.assertEqual(self.fit(2, [1, 1], num_batches=10), [(0, 0), (10, 0)])

    def test_outside_and_in_another_fit(self):
        passes = _Passes(10, close_mosaic=2)
        outside = [passes.begin() for _ in range(3)]
        self.assertEqual([int(start) for start, _ in outside], [0, 10, 20])
        self.assertTrue(all(end > 1e9 for _, end in outside))
        for _ in range(2):
            with fitting(FitProgress(5, initial_epoch=1)):
                self.assertEqual(int(passes.begin()[0]), 10)


class Reader(keras.Model):
    """Reads batches in `fit` and learns nothing; it keeps which images went into each."""

    def __init__(self, progress):
        super().__init__()
        self.progress, self.seen = progress, []
        self.compile(run_eagerly=True)

    def reset_metrics(self):  # Keras calls it at the beginning of each epoch
        self.progress.epoch = len(self.seen) // STEPS

    def train_step(self, data):
        self.seen.append(data[1]["source_ids"].numpy())
        return {"loss": 0.0}


class EpochTest(TestCase, tf.test.TestCase):
    def test_keras_reads_the_stream_epoch_by_epoch(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        write_shapes(folder, train=IMAGES, val=1, image_size=32)
        options = {"image_size": 32, "batch_size": BATCH, "augment": MOSAIC}
        dataset = make_dataset(folder, "train", **options)
        self.assertEqual(int(dataset.cardinality()), STEPS)
        self.assertEqual(int(dataset.map(lambda x, y: (x, y)).prefetch(2).cardinality()), STEPS)
        stream = endless(folder, epochs=4, **options).take(4 * STEPS)
        expected = [truth["source_ids"].numpy() for _, truth in stream]
        mosaics = [bool(np.any(ids != ids[:, :1])) for ids in expected]
        self.assertEqual(mosaics, [True] * 6 + [False] * 6)
        for found in (dataset, dataset.map(lambda x, y: (x, y)).prefetch(2)):
            with fitting(FitProgress(4, num_batches=STEPS)) as progress:
                reader = Reader(progress)
                reader.fit(found, epochs=4, verbose=0, shuffle=False)
            self.assertAllEqual(reader.seen, expected)


if __name__ == "__main__":
    tf.test.main()
