"""Checkpoints are whole or not there, and damage is found."""

import json
import os
import pathlib
import resource
import signal

import numpy as np
import tensorflow as tf

from kyolo.errors import InputError
from kyolo.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.reliability.planted_kill import Killer, plant_in_files


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

    def test_a_kill_before_any_call_of_the_write_leaves_the_old_file_or_the_new(self):
        new = Checkpoint({"model/a/kernel": np.zeros((100, 100), np.float32)}, {"step": 4})
        killer, counts = Killer(), self.path.with_name("counts")
        self.in_a_process(
            killer, lambda: (save_checkpoint(self.path, new), counts.write_text(json.dumps(killer.counts)))
        )
        counts = json.loads(counts.read_text())
        self.assertCountEqual(counts, [f"{call} last.npz" for call in ("open", "write", "fsync", "replace")])
        for call, count in counts.items():
            for number in range(1, count + 1):
                save_checkpoint(self.path, self.checkpoint)
                ended_by = self.in_a_process(Killer(call, number), lambda: save_checkpoint(self.path, new))
                self.assertEqual(ended_by, signal.SIGKILL)
                # The second fsync is the folder's, and comes when the new file has its name.
                step = load_checkpoint(self.path).state["step"]
                self.assertEqual(step, 4 if (call, number) == ("fsync last.npz", 2) else 3, f"{call} {number}")

    def in_a_process(self, killer, action):
        """Acts in a copy of this process; returns the signal that ended it, or 0."""
        child = os.fork()
        if child == 0:
            plant_in_files(killer)
            action()
            os._exit(0)
        return os.WTERMSIG(os.waitpid(child, 0)[1])

    def test_a_full_disk_leaves_the_old_file(self):
        save_checkpoint(self.path, self.checkpoint)
        larger = Checkpoint({"model/a/kernel": np.zeros((100, 100), np.float32)}, {"step": 4})
        kept = resource.getrlimit(resource.RLIMIT_FSIZE)
        for limit in (0, 300, 20_000):  # bytes: before the first, before the state's end, within the array
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, kept[1]))
            try:
                with self.assertRaisesRegex(
                    InputError, "Cannot write .*last.npz.* disk space .* 'File too large'.* --resume"
                ):
                    save_checkpoint(self.path, larger)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, kept)
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
