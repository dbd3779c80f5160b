"""The pieces of a batch: no image is missing, none is there twice, and each is where one worker alone would have it."""

import numpy as np
import tensorflow as tf

from kyolo.data import Share, write_shapes
from tests.data.streams import endless
from tests.test_case import TestCase


class ShareTest(TestCase, tf.test.TestCase):
    def test_positions(self):
        # Batches of 6 in pieces of 2: 0 1 | 2 3 | 4 5, 6 7 | 8 9 | 10 11, ...
        take = 6
        for share, start_step, expected in (
            (Share(), 0, [0, 1, 2, 3, 4, 5]),
            (Share(), 1, [6, 7, 8, 9, 10, 11]),
            (Share(3, 0, 1), 0, [0, 1, 6, 7, 12, 13]),
            (Share(3, 2, 1), 1, [10, 11, 16, 17, 22, 23]),
            (Share(3, 1, 2), 0, [2, 3, 4, 5, 8, 9]),
            (Share(3, 0, 3), 1, [6, 7, 8, 9, 10, 11]),
        ):
            positions = list(share.positions(6, start_step).take(take).as_numpy_iterator())
            self.assertEqual(positions, expected, share)

    def test_pieces_are_equal(self):
        with self.assertRaisesRegex(ValueError, "batch_size: expected a multiple of the 3 replicas, got 4"):
            Share(replicas=3).positions(4, 0)

    def test_pieces_make_the_batch(self):
        write_shapes(self.folder / "set", train=5, val=1, image_size=64)

        def batches(count, share):
            dataset = endless(self.folder / "set", image_size=64, batch_size=4, start_step=1, share=share)
            return list(dataset.take(count).as_numpy_iterator())

        whole = batches(2, Share())
        first, second = batches(2, Share(2, 0)), batches(2, Share(2, 1))
        both = batches(4, Share(2, 0, 2))
        for step, (images, truth) in enumerate(whole):
            for pieces in ((first[step], second[step]), both[2 * step : 2 * step + 2]):
                self.assertAllEqual(np.concatenate([piece[0] for piece in pieces]), images)
                self.assertAllEqual(np.concatenate([piece[1]["image_id"] for piece in pieces]), truth["image_id"])
                for row, piece in enumerate(pieces):
                    boxes = piece[1]["boxes"]
                    self.assertAllEqual(boxes, truth["boxes"][2 * row : 2 * row + 2, : boxes.shape[1]])


if __name__ == "__main__":
    tf.test.main()
