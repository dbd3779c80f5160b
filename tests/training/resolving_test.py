"""What the machine decides."""

from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from kyolo.training import resolving
from kyolo.training.resolving import resolve_precision


class PrecisionTest(tf.test.TestCase, parameterized.TestCase):
    def test_precision(self):
        self.assertEqual(resolve_precision("mixed_float16"), "mixed_float16")

    @parameterized.parameters(
        ({"avx2", "fma"}, "float32"), ({"avx2", "avx512_bf16"}, "mixed_bfloat16"), ({"amx_bf16"}, "mixed_bfloat16")
    )
    def test_auto_precision_asks_the_processor(self, flags, expected):
        with mock.patch.object(resolving, "_processor_flags", return_value=flags):
            self.assertEqual(resolve_precision("auto"), expected)

    @parameterized.parameters(((9, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16"), ((6, 1), "float32"))
    def test_auto_precision_asks_the_gpu(self, capability, expected):
        details = {"compute_capability": capability}
        with (
            mock.patch.object(tf.config, "list_physical_devices", return_value=["a GPU"]),
            mock.patch.object(tf.config.experimental, "get_device_details", return_value=details),
        ):
            self.assertEqual(resolve_precision("auto"), expected)


if __name__ == "__main__":
    tf.test.main()
