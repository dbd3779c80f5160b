"""Checkpoints are whole or not there, and damage is found."""

import os
import pathlib

import numpy as np
import tensorflow as tf

from kyolo.errors import InputError
from kyolo.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


class CheckpointTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.get_temp_dir()) / "last.npz"
        self.checkpoint = Checkpoint(
            {
                "model/a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
                "ema/a/kernel": np.ones(2),
                "optimizer/n": np.int64(7),
            },
            {"step": 3, "history": [{"loss": 1.5}], "best": None},
        )

    def test_round_trip(self):
        save_checkpoint(self.path, self.checkpoint)
        loaded = load_checkpoint(self.path)
        self.assertEqual(loaded.state, self.checkpoint.state)
        self.assertEqual(set(loaded.arrays), set(self.checkpoint.arrays))
        self.assertAllEqual(loaded.group("model")["a/kernel"], [[0, 1, 2], [3, 4, 5]])
        self.assertEqual(list(loaded.group("ema")), ["a/kernel"])
        self.assertEqual(loaded.group("optimizer")["n"], 7)

    def test_a_write_that_dies_leaves_the_old_file(self):
        save_checkpoint(self.path, self.checkpoint)
        with self.assertRaises(TypeError):  # a set is no JSON
            save_checkpoint(self.path, Checkpoint({}, {"step": {1}}))
        self.assertEqual(load_checkpoint(self.path).state["step"], 3)

    def test_missing(self):
        with self.assertRaisesRegex(InputError, "No checkpoint: expected the file"):
            load_checkpoint(self.path)

    def test_every_cut_is_found(self):
        save_checkpoint(self.path, self.checkpoint)
        whole = self.path.read_bytes()
        for size in range(0, len(whole) - 1, 97):
            self.path.write_bytes(whole[:size])
            with self.assertRaisesRegex(InputError, "Damaged checkpoint"):
                load_checkpoint(self.path)

    def test_a_flipped_bit_in_the_weights_is_found(self):
        save_checkpoint(self.path, self.checkpoint)
        whole = bytearray(self.path.read_bytes())
        place = whole.find(np.float32(4.0).tobytes())
        self.assertGreater(place, 0)
        whole[place] ^= 1
        self.path.write_bytes(bytes(whole))
        with self.assertRaisesRegex(InputError, "Damaged checkpoint"):
            load_checkpoint(self.path)

    def test_a_pickle_is_not_executed(self):
        marker = self.path.with_name("executed")

        class Evil:
            def __reduce__(self):
                return (os.mkdir, (str(marker),))

        np.savez(self.path, state=np.array([Evil()], dtype=object), allow_pickle=True)
        with self.assertRaisesRegex(InputError, "Damaged checkpoint"):
            load_checkpoint(self.path)
        self.assertFalse(marker.exists())


if __name__ == "__main__":
    tf.test.main()
