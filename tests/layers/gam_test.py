import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from kyolo.layers import GAM
from tests import golden, oracles

CHANNEL, SPATIAL = "channel_attention.", "spatial_attention."


def oracle_weights(weights):
    """The golden weights under the names of the oracle."""
    norm = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
    places = {"fc1": CHANNEL + "0", "fc2": CHANNEL + "2", "conv1": SPATIAL + "0", "conv2": SPATIAL + "4"}
    result = {k: {"kernel": weights[v + ".weight"], "bias": weights[v + ".bias"]} for k, v in places.items()}
    for name, place in {"bn1": SPATIAL + "1", "bn2": SPATIAL + "5"}.items():
        result[name] = {ours: weights[f"{place}.{theirs}"] for ours, theirs in norm.items()}
    return result


def set_weights(layer, weights):
    """Copies weights into a built GAM: a Linear becomes a 1x1 convolution."""
    convs = {
        "fc1": layer.channel_squeeze,
        "fc2": layer.channel_expand,
        "conv1": layer.spatial_squeeze,
        "conv2": layer.spatial_expand,
    }
    for name, conv in convs.items():
        conv.kernel.assign(weights[name]["kernel"].reshape(conv.kernel.shape))
        conv.bias.assign(weights[name]["bias"])
    for name, norm in {"bn1": layer.squeeze_norm, "bn2": layer.expand_norm}.items():
        norm.set_weights([weights[name][key] for key in ("gamma", "beta", "mean", "variance")])


def flat(weights):
    """Those of a 1x1 convolution as those of a dense layer."""
    return {**weights, "kernel": weights["kernel"].reshape(weights["kernel"].shape[-2:])}


def some_input(channels=16, seed=0):
    return np.random.default_rng(seed).normal(size=(2, 7, 5, channels)).astype("float32")


class GAMTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(name=("gam", "gam_groups"), init=("paper", "identity"), training=(False, True))
    def test_equals_pytorch_and_numpy(self, name, init, training):
        """With weights that are no identity; "identity" then has gates of twice the paper's."""
        (tensors, weights), groups = golden.load(name), 1 if name == "gam" else 2
        layer, weights = GAM(init=init, groups=groups), oracle_weights(weights)
        layer.build(tensors["x"].shape)
        set_weights(layer, weights)
        key = f"y{'_identity' * (init == 'identity')}_{'train' if training else 'eval'}"
        self.assertAllClose(layer(tensors["x"], training=training), tensors[key], rtol=0, atol=1e-5)
        gain = 1.0 if init == "paper" else 2.0
        expected = oracles.gam(tensors["x"], weights, groups=groups, training=training, gain=gain)
        self.assertAllClose(tensors[key], expected, rtol=0, atol=1e-5)

    @parameterized.product(groups=(1, 2), training=(False, True))
    def test_identity_returns_its_input(self, groups, training):
        x = some_input()
        self.assertAllClose(GAM(groups=groups)(x, training=training), x, rtol=0, atol=1e-6)

    def test_identity_learns_from_the_first_step(self):
        # y = x * 2 s(a) * 2 s(b) with a = b = 0: dy/da = x / 2, so the last layer of each branch has a gradient; what
        # lies before them has none yet.
        layer, x = GAM(), some_input()
        layer.build(x.shape)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=True) * some_input(seed=1))
        learning = [layer.channel_expand.kernel, layer.channel_expand.bias, layer.expand_norm.gamma]
        learning.append(layer.expand_norm.beta)
        for variable, gradient in zip(learning, tape.gradient(loss, learning), strict=True):
            self.assertGreater(np.abs(gradient).max(), 1e-3, msg=variable.path)

    @parameterized.parameters(False, True)
    def test_paper_with_zeroed_last_layers_is_a_quarter(self, training):
        # Two sigmoids of 0, one half each. A port that forgets the sigmoid over the channels gives 0.
        layer, x = GAM(init="paper"), some_input()
        layer.build(x.shape)
        for variable in (layer.channel_expand.kernel, layer.channel_expand.bias, layer.expand_norm.gamma):
            variable.assign(np.zeros(variable.shape))
        self.assertAllEqual(layer(x, training=training), 0.25 * x)

    def test_paper_gates_stay_between_zero_and_one(self):
        ratio = (GAM(init="paper")(some_input(), training=True) / some_input()).numpy()
        self.assertAllInRange(ratio, 0, 1)
        self.assertBetween(ratio.mean(), 0.2, 0.3)  # about 0.25 at the start

    @parameterized.parameters((256, 1, 1639680), (512, 1, 6556160), (256, 4, 435456))
    def test_number_of_weights(self, channels, groups, expected):
        # Kernels of the perceptron and of the convolutions, then a bias for each of the four and two weights a channel
        # for the norms. 256 channels: 32768 + 1605632 + 4 * 320.
        hidden = channels // 4
        by_hand = 2 * channels * hidden + 2 * 49 * channels * hidden // groups + 4 * (hidden + channels)
        self.assertEqual(by_hand, expected)
        layer = GAM(groups=groups)
        layer.build((1, 8, 8, channels))
        self.assertEqual(sum(np.prod(v.shape) for v in layer.trainable_variables), expected)

    def test_channel_attention_is_per_pixel(self):
        # With the spatial gate held at one half, a change of one pixel changes that pixel only.
        layer, x = GAM(init="paper"), some_input()
        layer.build(x.shape)
        layer.expand_norm.gamma.assign(np.zeros(x.shape[-1]))
        changed = x.copy()
        changed[0, 3, 2] += 1.0
        difference = np.abs(layer(changed) - layer(x)).max(axis=-1)
        self.assertGreater(difference[0, 3, 2], 1e-3)
        difference[0, 3, 2] = 0
        self.assertAllEqual(difference, np.zeros_like(difference))

    def test_moving_statistics(self):
        # Momentum 0.9 in both norms. With its input at zero the first convolution gives its bias: mean 0.1 * bias,
        # variance 0.9 * 1 + 0.1 * 0.
        layer, x = GAM(), np.zeros((1, 7, 7, 16), "float32")
        layer.build(x.shape)
        layer.spatial_squeeze.bias.assign([1.0, 2.0, 3.0, 4.0])
        layer(x, training=True)
        self.assertAllClose(layer.squeeze_norm.moving_mean, [0.1, 0.2, 0.3, 0.4])
        self.assertAllClose(layer.squeeze_norm.moving_variance, [0.9] * 4)
        self.assertAllClose(layer.expand_norm.moving_variance, [0.9] * 16)

    @parameterized.parameters("identity", "paper")
    def test_without_the_channel_gate(self, init):
        """The channel branch as it is, 1 + it where it starts at the identity; the oracle's logits undo its sigmoid."""
        tensors, weights = golden.load("gam")
        layer, weights = GAM(init=init, channel_gate="none"), oracle_weights(weights)
        layer.build(tensors["x"].shape)
        set_weights(layer, weights)
        x, gain = np.float64(tensors["x"]), 2.0 if init == "identity" else 1.0
        factor = oracles.perceptron(x, {"squeeze": flat(weights["fc1"]), "expand": flat(weights["fc2"])})
        factor = 1 + factor if init == "identity" else factor
        # A channel gate of exactly 1, which leaves the spatial one: sigmoid of 0, times 2.
        still = {**weights, "fc2": {"kernel": np.zeros((4, 16)), "bias": np.zeros(16)}}
        gate = oracles.gam(x * factor * (1.0 if init == "identity" else 2.0), still, gain=gain)
        self.assertAllClose(layer(tensors["x"], training=False), gate, rtol=0, atol=1e-5)

    @parameterized.parameters(
        ({"init": "zeros"}, "^init: expected"), ({"channel_gate": "relu"}, "^channel_gate: expected"),
        ({"reduction": 5}, "must be divisible"), ({"groups": 3}, "must be divisible"),
    )  # fmt: skip
    def test_bad_arguments_are_refused(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            GAM(**arguments).build((1, 8, 8, 16))


if __name__ == "__main__":
    tf.test.main()
