"""The batch size by memory: the arithmetic, and how a GPU is asked."""

import types
from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from kyolo.config import Config, apply_overrides
from kyolo.errors import InputError
from kyolo.training import batch_size
from kyolo.training.batch_size import choose_batch_size, resolve_batch_size

GIB = 2**30
AUTO = apply_overrides(Config(), ["train.batch_size=auto"])


def index_of(images):
    return types.SimpleNamespace(num_images=images, most_boxes=1)


class BatchSizeTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        # 2 GiB and half a GiB an image; 0.65 of the memory is for a step.
        (24, 10**6, 24),  # 15.6 - 2 = 13.6 GiB hold 27 images
        (80, 10**6, 64),  # 50 GiB hold 100; not more than 64
        (8, 10**6, 4),  # 5.2 - 2 = 3.2 GiB hold 6
        (4, 10**6, 1),  # 2.6 - 2 = 0.6 GiB hold one
        (80, 205, 24),  # 25 leave 8 steps
        (80, 30, 2),  # 3 would
        (80, 3, 1),
    )
    def test_a_line_through_two_steps(self, memory, images, expected):
        peaks = [(2, 3 * GIB), (4, 4 * GIB)]
        self.assertEqual(choose_batch_size(peaks, memory * GIB, images), expected)

    def test_too_little_memory(self):
        with self.assertRaisesRegex(InputError, "expected 4.6 GiB for 2 images, received 3.0 GiB"):
            choose_batch_size([(2, 3 * GIB), (4, 4 * GIB)], 3 * GIB, 100)

    def test_steps_that_cost_the_same(self):
        # Workspaces of the convolutions hide what two images more take: as many as are wanted.
        self.assertEqual(choose_batch_size([(2, 3 * GIB), (4, 3 * GIB)], 8 * GIB, 10**6), 64)

    def test_a_number_stays(self):
        self.assertEqual(resolve_batch_size(Config(), index_of(3)), 16)

    @parameterized.parameters((100, 1, 16), (5, 1, 5), (100, 3, 15), (5, 2, 4), (1, 2, 2), (100, 20, 20))
    def test_on_a_cpu(self, images, replicas, expected):
        with mock.patch.object(tf.config, "list_physical_devices", return_value=[]):
            self.assertEqual(resolve_batch_size(AUTO, index_of(images), replicas), expected)

    def test_on_a_gpu_each_batch_is_measured_after_its_first_step(self):
        config = apply_overrides(
            AUTO, ["model.backbone.size=p", "model.levels=[P4, P5]", "model.num_classes=2", "data.image_size=64",
                   "train.precision=float32"]
        )  # fmt: skip
        calls = []
        sizes = []

        def fit(data, verbose):  # noqa: ARG001
            images = next(iter(data))[0]
            calls.append(int(images.shape[0]))
            sizes.append(tuple(images.shape[1:]))

        detector = mock.Mock(fit=fit, strides=(16, 32))
        info = {"reset_memory_stats": lambda device: calls.append(f"reset {device}"),
                "get_memory_info": lambda device: {"peak": (1 + calls[-1]) * GIB}}  # noqa: ARG005  # fmt: skip
        with (
            mock.patch.object(tf.config, "list_physical_devices", return_value=["a GPU"]),
            mock.patch.object(batch_size._compat, "gpu_memory_limits", return_value=[20 * GIB]),
            mock.patch.object(batch_size, "build_detector", return_value=detector),
            mock.patch.multiple(tf.config.experimental, **info),
        ):
            # 1 GiB and one an image: 13 GiB hold 12.
            self.assertEqual(resolve_batch_size(config, index_of(1000)), 8)
            self.assertEqual(calls, [2, "reset GPU:0", 2, 4, "reset GPU:0", 4])
            # Two replicas hold as many each, of three times as many pixels.
            scaled = apply_overrides(config, ["augment.multi_scale=0.5"])
            self.assertEqual(resolve_batch_size(scaled, index_of(1000), replicas=2), 16)
            self.assertEqual(sizes[-1], (96, 96, 3))


if __name__ == "__main__":
    tf.test.main()
