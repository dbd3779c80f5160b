"""tensorflow-addons as a second opinion: what it answers (tools/tfa_reference.py) against kyolo and Keras 3.

Where both do the same arithmetic, float64 leaves a few units in the last place, and float32 a few of its own.
"""

import sys

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from kyolo.losses import FocalLoss, GIoULoss
from kyolo.models.ema import ExponentialMovingAverage
from tests.test_case import ROOT, TestCase
from tests.tools_test import run_script

CLOSE = {"rtol": 1e-13, "atol": 1e-13}
SCRIPT = ROOT / "tools" / "tfa_reference.py"

with np.load(ROOT / "tests" / "golden" / "tfa.npz", allow_pickle=False) as file:
    GOLDEN = dict(file)


def golden(group):
    """The arrays of a group by their names in it."""
    return {name.removeprefix(f"{group}/"): array for name, array in GOLDEN.items() if name.startswith(f"{group}/")}


def loss_and_gradient(loss, target, prediction, dtype):
    """The loss of each element in float64, and the gradient of their sum with respect to the prediction."""
    prediction = tf.constant(prediction, dtype)
    with tf.GradientTape() as tape:
        tape.watch(prediction)
        values = loss(tf.constant(target, dtype), prediction)
    return values.numpy().astype("float64"), tape.gradient(values, prediction).numpy().astype("float64")


class ScriptTest(TestCase):
    def test_the_file_is_of_the_pinned_versions(self):
        lines = (ROOT / "requirements" / "tfa-reference.txt").read_text().splitlines()
        self.assertCountEqual(GOLDEN["versions"], [line for line in lines if not line.startswith("#")])

    def test_another_environment_is_refused(self):
        done = run_script(SCRIPT, "--output", self.folder / "tfa.npz")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr, r"^tfa_reference: error: [^\n]*requirements/tfa-reference.txt[^\n]*\n$")
        self.assertIn(sys.executable, done.stderr)
        self.assertEmpty(list(self.folder.iterdir()))

    def test_an_output_without_a_folder_is_refused(self):
        done = run_script(SCRIPT, "--output", "/no/folder/tfa.npz")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr, r"^tfa_reference: error: /no/folder/tfa.npz: [^\n]*\n$")


class GIoUTest(tf.test.TestCase, parameterized.TestCase):
    SMOOTH = ("random", "tiny", "nested", "disjoint", "identical")  # elsewhere the loss has a kink

    def setUp(self):
        super().setUp()
        self.golden = golden("giou")
        self.smooth = np.isin(self.golden["case"], self.SMOOTH)

    def compare(self, dtype):
        loss = GIoULoss(reduction=None, dtype=dtype)
        return loss_and_gradient(loss, self.golden["target"], self.golden["prediction"], dtype)

    def test_float64(self):
        loss, gradient = self.compare("float64")
        self.assertAllClose(loss, self.golden["loss"], **CLOSE)
        self.assertAllClose(gradient[self.smooth], self.golden["gradient"][self.smooth], **CLOSE)

    def test_float32(self):
        # Gradients by the largest of their box: they are per pixel, and the tiny boxes' a million times the others'.
        loss, gradient = self.compare("float32")
        self.assertAllClose(loss, self.golden["loss"], rtol=0, atol=1e-6)
        expected = self.golden["gradient"][self.smooth]
        largest = np.maximum(np.abs(expected).max(axis=-1, keepdims=True), 1e-3)
        self.assertAllClose(gradient[self.smooth] / largest, expected / largest, rtol=0, atol=5e-6)

    def test_gradient_of_boxes_that_touch(self):
        # The top of 30 70 50 80 touches the bottom of 10 20 90 70: intersection I = 0, union U = 4000 + 200, enclosing
        # C = 80 x 60, loss 2 - I / U - U / C. Its top up by h: I grows by 20 h, U stays, the loss falls by 20 h / 4200.
        # Down by h: I stays, U falls by 20 h, the loss grows by 20 h / 4800. tensorflow-addons has the second slope.
        _, gradient = self.compare("float64")
        index = self.find([30, 70, 50, 80])
        self.assertAllClose(self.golden["gradient"][index, 1], 20 / 4800, **CLOSE)
        self.assertAllClose(gradient[index, 1], 20 / 4200, **CLOSE)
        self.assertAllClose(gradient[index, [0, 2, 3]], self.golden["gradient"][index, [0, 2, 3]], **CLOSE)

    def test_gradient_of_a_box_without_width(self):
        # A line of 30 pixels within 10 20 90 70. Wider by h: I grows by 30 h, and the loss falls by 30 h / 4000.
        # tensorflow-addons has no gradient there, so such a box could never grow.
        _, gradient = self.compare("float64")
        index = self.find([40, 30, 40, 60])
        self.assertAllEqual(self.golden["gradient"][index], np.zeros(4))
        self.assertAllClose(gradient[index], [30 / 4000, 0, -30 / 4000, 0], **CLOSE)

    def find(self, prediction):
        """The first pair with this prediction."""
        return int(np.flatnonzero((self.golden["prediction"] == prediction).all(axis=-1))[0])


class FocalTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*range(len(GOLDEN["focal/alpha"])))
    def test_values_and_gradients(self, row):
        golden_focal = golden("focal")
        alpha, gamma = float(golden_focal["alpha"][row]), float(golden_focal["gamma"][row])
        settings = {"alpha": None if np.isnan(alpha) else alpha, "gamma": gamma, "reduction": None}
        for dtype, close in (("float64", CLOSE), ("float32", {"rtol": 1e-6, "atol": 1e-6})):
            loss = FocalLoss(**settings, dtype=dtype)
            values, gradient = loss_and_gradient(loss, golden_focal["target"], golden_focal["logit"], dtype)
            self.assertAllClose(values, golden_focal["loss_float64"][row], **close)
            self.assertAllClose(gradient, golden_focal["gradient_float64"][row], **close)

    def test_sure_predictions_have_a_gradient(self):
        # The probability of a logit of 30 is 1 in float32, and 0 to a power below 1 has an infinite slope, which
        # tensorflow-addons multiplies with 0. The test above shows that kyolo's is that of float64.
        golden_focal = golden("focal")
        wrong = np.isnan(golden_focal["gradient_float32"])
        self.assertAllEqual(np.flatnonzero(wrong.any(axis=1)), np.flatnonzero(golden_focal["gamma"] == 0.5))
        self.assertAllInSet(np.abs(golden_focal["logit"])[wrong.any(axis=0)], [30.0])


class MovingAverageTest(tf.test.TestCase):
    """Step s = 1, 2, ...: kyolo's decay is min(decay, (1 + s) / (10 + s)), tensorflow-addons' has s - 1 for s."""

    def setUp(self):
        super().setUp()
        self.weights, self.averages = GOLDEN["average/weights"], GOLDEN["average/averages"]
        self.value = keras.Variable(self.weights[0])
        self.ema = ExponentialMovingAverage([self.value], float(GOLDEN["average/decay"]))

    def update(self, value, step):
        self.value.assign(value)
        self.ema.update(step)
        return self.ema.averages[0].numpy()

    def test_same_from_an_equal_average_on(self):
        # Their average after step 2 as our first weights, then their count of steps.
        self.update(self.averages[1], 1)
        for step in range(3, len(self.averages) + 1):
            average = self.update(self.weights[step], step - 1)
            self.assertAllClose(average, self.averages[step - 1], rtol=0, atol=1e-6, msg=step)

    def test_first_step(self):
        # Theirs begins with the weights before the first step: d = 1 / 10 of them stays. Ours with those after it.
        expected = 0.1 * self.weights[0] + 0.9 * self.weights[1]
        self.assertAllClose(self.averages[0], expected, rtol=0, atol=1e-6)
        self.assertAllEqual(self.update(self.weights[1], 1), self.weights[1])

    def test_what_is_left_of_the_difference(self):
        # Both as they are used; the weights are up to 3.
        differences = [
            np.abs(self.update(self.weights[step], step) - average).max()
            for step, average in enumerate(self.averages, start=1)
        ]
        self.assertBetween(max(differences), 0.01, 0.05)
        self.assertLess(differences[-1], 1e-4)


def lamb(start, gradients, decay_inside):
    """The weights after each step of LAMB; weight decay inside the trust ratio, or before everything as in AdamW."""
    settings = golden("optimizer")
    rate, beta_1, beta_2 = (settings[name] for name in ("learning_rate", "beta_1", "beta_2"))
    weight, mean, square, found = start.copy(), 0.0, 0.0, []
    for step, gradient in enumerate(gradients, start=1):
        mean = beta_1 * mean + (1 - beta_1) * gradient
        square = beta_2 * square + (1 - beta_2) * gradient**2
        update = mean / (1 - beta_1**step) / (np.sqrt(square / (1 - beta_2**step)) + settings["epsilon"])
        if decay_inside:
            update += settings["weight_decay"] * weight
        else:
            weight = weight - rate * settings["weight_decay"] * weight
        length = np.linalg.norm(weight)
        ratio = length / np.linalg.norm(update) if length > 0 else 1.0
        weight = weight - rate * ratio * update
        found.append(weight)
    return np.stack(found)


class OptimizersTest(tf.test.TestCase, parameterized.TestCase):
    NAMES = ("kernel", "bias")  # the bias starts at 0, where LAMB's trust ratio is 1

    def setUp(self):
        super().setUp()
        self.golden = golden("optimizer")
        self.settings = {name: float(self.golden[name]) for name in ("learning_rate", "beta_1", "beta_2", "epsilon")}

    def steps(self, optimizer):
        """The weights after each step of a Keras optimizer, from the golden start with the golden gradients."""
        variables = [keras.Variable(self.golden[f"start/{name}"], dtype="float64", name=name) for name in self.NAMES]
        gradients = [tf.constant(self.golden[f"gradients/{name}"]) for name in self.NAMES]
        found = {name: [] for name in self.NAMES}
        for step in range(len(gradients[0])):
            optimizer.apply([gradient[step] for gradient in gradients], variables)
            for name, variable in zip(self.NAMES, variables, strict=True):
                found[name].append(variable.numpy())
        return {name: np.stack(values) for name, values in found.items()}

    def assert_equals(self, optimizer, run):
        for name, weights in self.steps(optimizer).items():
            self.assertAllClose(weights, self.golden[f"{run}/{name}"], **CLOSE)

    def test_lamb(self):
        self.assert_equals(keras.optimizers.Lamb(**self.settings), "lamb")

    def test_lamb_with_clipped_gradients(self):
        clip_norm = float(self.golden["clip_norm"])
        self.assert_equals(keras.optimizers.Lamb(**self.settings, global_clipnorm=clip_norm), "lamb_clipped")
        self.assertNotAllClose(self.golden["lamb/kernel"], self.golden["lamb_clipped/kernel"], atol=1e-2)

    def test_weight_decay_of_lamb_is_another(self):
        # tensorflow-addons, as the paper: inside the trust ratio. Keras 3: learning rate x decay off the weights first.
        found = self.steps(keras.optimizers.Lamb(**self.settings, weight_decay=float(self.golden["weight_decay"])))
        for name in self.NAMES:
            start, gradients = self.golden[f"start/{name}"], self.golden[f"gradients/{name}"]
            expected = self.golden[f"lamb_decayed/{name}"]
            self.assertAllClose(lamb(start, gradients, decay_inside=True), expected, **CLOSE)
            self.assertAllClose(lamb(start, gradients, decay_inside=False), found[name], **CLOSE)
        self.assertNotAllClose(found["kernel"], self.golden["lamb_decayed/kernel"], atol=1e-2)

    def test_adamw(self):
        # tensorflow-addons takes `weight_decay` off the weights, Keras 3 learning rate x `weight_decay`.
        weight_decay = float(self.golden["weight_decay"]) / self.settings["learning_rate"]
        self.assert_equals(keras.optimizers.AdamW(**self.settings, weight_decay=weight_decay), "adamw")


if __name__ == "__main__":
    absltest.main()
