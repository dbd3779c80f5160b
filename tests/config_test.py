"""Strict YAML, overrides and the errors of `kyolo.config`."""

import dataclasses
import os
import pathlib
import tempfile
import time

import hypothesis
import hypothesis.strategies as st
from absl.testing import absltest, parameterized

from kyolo.config import (
    Block,
    Config,
    ConfigError,
    DataConfig,
    ModelConfig,
    TrainConfig,
    WeightsConfig,
    apply_overrides,
    config_to_dict,
    image_hw,
    load_config,
    save_config,
    training_hw,
)
from kyolo.errors import InputError

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"


class ConfigTestCase(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, text, name="config.yaml"):
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def assert_refused(self, function, path, *parts):
        with self.assertRaises(ConfigError) as caught:
            function()
        message = str(caught.exception)
        self.assertEqual(caught.exception.path, path)
        self.assertNotIn("\n", message)
        self.assertLess(len(message), 600)
        for part in parts:
            self.assertIn(part, message)


class LoadTest(ConfigTestCase):
    def test_empty_file_is_all_defaults(self):
        self.assertEqual(load_config(self.write("")), Config())

    def test_values_reach_their_blocks(self):
        text = """
        model:
          levels: [P2, P3, P4, P5, P6]
          attention: [{kind: gam, reduction: 8}]
          loss: {box: {kind: siou, weight: 5}}
        data: {image_size: [320, 640]}
        """
        config = load_config(self.write(text))
        self.assertEqual(config.model.levels, ("P2", "P3", "P4", "P5", "P6"))
        (attention,) = config.model.attention
        self.assertEqual((attention.kind, attention.at, attention.control), ("gam", "sppf_in", None))
        self.assertEqual(attention.arguments, {"reduction": 8})
        self.assertEqual(config.model.loss.box.weight, 5.0)
        self.assertIsInstance(config.model.loss.box.weight, float)
        self.assertEqual(config.data.image_size, (320, 640))
        self.assertEqual(config.train, TrainConfig())

    @parameterized.parameters(
        ("1e-3", 0.001), ("1E-3", 0.001), ("25e-5", 0.00025), (".5", 0.5), ("1.", 1.0), ("+2", 2.0),
        ("1_000.5", 1000.5),
    )  # fmt: skip
    def test_numbers_as_people_write_them(self, text, value):
        config = load_config(self.write(f"train: {{optimizer: {{learning_rate: {text}}}}}"))
        self.assertEqual(config.train.optimizer.learning_rate, value)

    def test_whole_numbers_have_ten_digits_and_names_may_be_words(self):
        config = load_config(self.write("train: {epochs: 0100, batch_size: 1_0}\ndata: {class_names: [no, off, 1:30]}"))
        self.assertEqual((config.train.epochs, config.train.batch_size), (100, 10))
        self.assertEqual(config.data.class_names, ("no", "off", "1:30"))

    @parameterized.parameters(
        ("90", 90.0), ("90s", 90.0), ("5m", 300.0), ("1h30m", 5400.0), ("1h 30m", 5400.0), ("1.5 h", 5400.0),
        ("2h 5m 7s", 7507.0),
    )  # fmt: skip
    def test_durations(self, text, seconds):
        self.assertEqual(load_config(self.write(f"train: {{time_limit: {text}}}")).train.time_limit, seconds)

    def test_paths_are_relative_to_their_file(self):
        (self.folder / "deep").mkdir()
        base = "data: {path: ../cells}\nmodel: {weights: run, backbone: {weights: a.weights.h5}}"
        (self.folder / "deep/base.yaml").write_text(base)
        config = load_config(self.write("base: deep/base.yaml\ntrain: {seed: 1}"), ["data.format=voc"])
        self.assertEqual(config.data.path, str(self.folder / "cells"))
        self.assertEqual(config.model.weights, WeightsConfig(str(self.folder / "deep/run")))
        self.assertEqual(config.model.backbone.weights, str(self.folder / "deep/a.weights.h5"))
        config = load_config(self.write("data: {path: /cells}\nmodel: {backbone: {weights: yolo_v8_xs_backbone}}"))
        self.assertEqual((config.data.path, config.model.backbone.weights), ("/cells", "yolo_v8_xs_backbone"))
        config = load_config(self.write("base: deep/base.yaml"), ["data.path=cells"])
        self.assertEqual(config.data.path, os.path.abspath("cells"))  # Where the command line is given.

    def test_relative_paths_of_the_command_line_survive_a_run(self):
        """They are saved into another folder than they were given in."""
        settings = ["data.path=cells", "model.weights=runs/mine", "model.backbone.weights=a.weights.h5"]
        config = apply_overrides(Config(), settings)
        block = apply_overrides(Config(), ["model.weights={path: runs/mine, skip: [sppf]}"]).model.weights
        self.assertEqual(block, WeightsConfig(os.path.abspath("runs/mine"), ("sppf",)))
        self.assertEqual(config.model.weights, dataclasses.replace(block, skip=()))
        (self.folder / "run").mkdir()
        save_config(config, self.folder / "run/config.yaml")
        self.assertEqual(load_config(self.folder / "run/config.yaml"), config)

    def test_config_cannot_be_changed(self):
        with self.assertRaises(dataclasses.FrozenInstanceError):
            Config().train.epochs = 3

    @parameterized.parameters(
        ("train: {epoch: 3}", "train.epoch", "unknown key", "did you mean epochs?"),
        ("trian: {}", "trian", "unknown key", "did you mean train?"),
        ("1: 2", "1", "unknown key"),
        ("train: {epochs: ten}", "train.epochs", "expected a whole number >= 1", "received 'ten'"),
        ("train: {epochs: 1.5}", "train.epochs", "received 1.5"),
        ("train: {epochs: true}", "train.epochs", "received True"),
        ("train: {epochs: 0}", "train.epochs", "expected a whole number >= 1", "received 0"),
        ("train: {epochs: null}", "train.epochs", "received null"),
        ("train: {seed: 2147483648}", "train.seed", "<= 2147483647"),
        ("train: {seed: 12345678901234567890123456789}", "train.seed", "received 1234"),
        ("train: 3", "train", "expected a mapping of settings, received 3"),
        ("train: {optimizer: {learning_rate: 1e999}}", "train.optimizer.learning_rate", "received inf"),
        ("train: {optimizer: {learning_rate: 0}}", "train.optimizer.learning_rate", "expected a number > 0"),
        ("train: {optimizer: {learning_rate: .nan}}", "train.optimizer.learning_rate", "received '.nan'"),
        ("train: {optimizer: {learning_rate: .inf}}", "train.optimizer.learning_rate", "received '.inf'"),
        (
            "train: {optimizer: {learning_rate_factors: {head: 0}}}",
            "train.optimizer.learning_rate_factors.head",
            "> 0, received 0",
        ),
        (
            "train: {optimizer: {learning_rate_factors: {head: a}}}",
            "train.optimizer.learning_rate_factors.head",
            "received 'a'",
        ),
        (
            "train: {optimizer: {learning_rate_factors: {1: 2}}}",
            "train.optimizer.learning_rate_factors.1",
            "expected a name",
        ),
        (
            "train: {optimizer: {learning_rate_factors: [head]}}",
            "train.optimizer.learning_rate_factors",
            "expected a mapping",
        ),
        ("train: {batch_size: 0}", "train.batch_size", "expected a whole number >= 1, or auto, received 0"),
        ("train: {batch_size: many}", "train.batch_size", "expected a whole number >= 1, or auto, received 'many'"),
        ("train: {batch_size: 1.5}", "train.batch_size", "or auto, received 1.5"),
        ("train: {batch_size: true}", "train.batch_size", "or auto, received True"),
        ("train: {freeze: backbone}", "train.freeze", "expected a list"),
        ("train: {tensorboard: yes}", "train.tensorboard", "expected true or false, received 'yes'"),
        ("train: {time_limit: 1:30}", "train.time_limit", "such as 90s, 5m or 1h30m, received '1:30'"),
        ("train: {time_limit: 30m1h}", "train.time_limit", "received '30m1h'"),
        ("train: {time_limit: 0s}", "train.time_limit", "seconds above 0"),
        ("train: {optimizer: {learning_rate: nan}}", "train.optimizer.learning_rate", "received 'nan'"),
        ("train: {optimizer: {learning_rate: 1e400}}", "train.optimizer.learning_rate", "received inf"),
        ("train: {epochs: 1" + "0" * 400 + "}", "train.epochs", "received 1000"),
        ("train: {epochs: 0x" + "f" * 5000 + "}", "train.epochs", "received '0xff"),
        ('base: "a\\0b"', "base", "the name of one file"),
        ('base: "a\\nb"', "base", "the name of one file"),
        ('base: "\\ud800"', "base", "the name of one file"),
        ("train: {tensorboard: 1}", "train.tensorboard", "expected true or false, received 1"),
        ("model: {backbone: {kind: yolo8}}", "model.backbone.kind", "did you mean yolov8?"),
        ("model: {attention: [{kind: gam}, {at: sppf_in}]}", "model.attention.1.kind", "missing"),
        ("model: {attention: {kind: gam}}", "model.attention", "expected a list"),
        ("model: {weights: {skip: [sppf]}}", "model.weights.path", "missing"),
        ("model: {weights: {path: a, skip: sppf}}", "model.weights.skip", "expected a list"),
        ("model: {weights: 3}", "model.weights", "expected a mapping of settings, received 3"),
        ("model: {attention: [{kind: gamm}]}", "model.attention.0.kind", "gam"),
        (
            "model: {attention: [{kind: se}, {kind: se, at: N6}]}",
            "model.attention.1.at",
            "sppf_in, P3, P4, P5, N3, N4, N5",
        ),
        ("model: {attention: [{kind: se, at: P7}]}", "model.attention.0.at", "expected"),
        ("model: {attention: [{kind: se, control: dense}]}", "model.attention.0.control", "conv"),
        ("model: {levels: [P3, P5]}", "model.levels", "consecutive", "received [P3, P5]"),
        ("model: {levels: [P4, P3]}", "model.levels", "consecutive"),
        ("model: {levels: [P3]}", "model.levels", "two or more"),
        ("model: {levels: []}", "model.levels", "two or more"),
        ("model: {levels: [P3, P3]}", "model.levels", "consecutive"),
        ("model: {levels: [P5, P6, P7]}", "model.levels.2", "received 'P7'"),
        ("model: {levels: P3}", "model.levels", "expected a list, received 'P3'"),
        ("model: {num_classes: 2}\ndata: {class_names: [a, b, c]}", "model.num_classes", "expected 3", "received 2"),
        ("data: {class_names: [a, b, a]}", "data.class_names", "none twice"),
        ("data: {class_names: [true, b]}", "data.class_names.0", "received True", "quotes"),
        ("data: {path: 2024}", "data.path", "put it in quotes"),
        ("data: {path: ''}", "data.path", "one line of text"),
        ('data: {class_names: ["a\\nb"]}', "data.class_names.0", "one line of text"),
        ("data: {fit: null}", "data.fit", "letterbox, stretch", "received null"),
        ("data: {image_size: 100}", "data.image_size", "multiples of 32, the stride of P5", "received 100"),
        ("data: {image_size: [64, 72]}", "data.image_size", "multiples of 32"),
        ("data: {image_size: [64, 64, 64]}", "data.image_size", "a list of 2"),
        ("data: {image_size: 96}\nmodel: {levels: [P5, P6]}", "data.image_size", "multiples of 64, the stride of P6"),
    )
    def test_bad_setting_is_named(self, text, path, *parts):
        self.assert_refused(lambda: load_config(self.write(text)), path, *parts)

    @parameterized.parameters(
        ("train: {epochs: 3, epochs: 4}", "line 1", "key 'epochs' twice"),
        ("a: &x [1]\nb: *x", "line 2", "aliases"),
        ("a: !!python/object/apply:os.system [ls]", "line 1", "tags"),
        ("a: [1, 2", "line 1"),
        ("? [1]\n: 2", "a key must be a name"),
        ("- 1\n- 2", "expected a mapping of settings"),
        ("just text", "expected a mapping of settings, received 'just text'"),
        ("---\na: 1\n---\nb: 2", "line"),
        ("a: " + "9" * 5000, "4300"),
        (b"\xff\xfe\x00a", "UTF-8"),
        (b"a: \x00", "expected YAML"),
        (b"a: " + b"x" * 300_000, "256 KiB"),
        ("[" * 5000, "inside each other"),
    )
    def test_what_is_no_config_is_refused_with_the_files_name(self, text, *parts):
        path = self.write(text)
        self.assert_refused(lambda: load_config(path), str(path), *parts)

    def test_what_begins_as_a_number_takes_no_time(self):
        path = self.write("a: " + "9" * 100_000 + "x")
        start = time.thread_time()
        self.assert_refused(lambda: load_config(path), "a", "unknown key")
        self.assertLess(time.thread_time() - start, 5)  # a minute and more, were the digits tried in every split

    def test_missing_file_and_folder(self):
        self.assert_refused(lambda: load_config(self.folder / "no.yaml"), str(self.folder / "no.yaml"), "No such file")
        self.assert_refused(lambda: load_config(self.folder), str(self.folder), "directory")

    def test_mistyped_values_are_checked_in_python_too(self):
        self.assert_refused(lambda: TrainConfig(epochs="5"), "epochs", "received '5'")
        self.assert_refused(lambda: ModelConfig(levels=["P3", "P5"]), "levels", "received [P3, P5]")
        self.assertEqual(ModelConfig(levels=["P3", "P4"]).levels, ("P3", "P4"))

    def test_image_hw(self):
        self.assertEqual(image_hw(DataConfig(image_size=320).image_size), (320, 320))
        self.assertEqual(image_hw(DataConfig(image_size=(192, 320)).image_size), (192, 320))

    def test_training_hw(self):
        self.assertEqual(training_hw(Config()), (640, 640))
        self.assertIsNone(training_hw(apply_overrides(Config(), ["augment.multi_scale=0.1"])))


class BaseTest(ConfigTestCase):
    def test_mappings_merge_and_lists_and_scalars_replace(self):
        self.write("model: {levels: [P3, P4, P5], backbone: {size: s}}\ntrain: {epochs: 7, batch_size: 2}", "a.yaml")
        (self.folder / "sub").mkdir()
        self.write("base: ../a.yaml\nmodel: {levels: [P4, P5]}\ntrain: {epochs: 9}", "sub/b.yaml")
        config = load_config(self.write("base: sub/b.yaml\ntrain: {seed: 3}"))
        self.assertEqual(config.model.levels, ("P4", "P5"))
        self.assertEqual(config.model.backbone.size, "s")
        self.assertEqual((config.train.epochs, config.train.batch_size, config.train.seed), (9, 2, 3))

    def test_mappings_with_free_keys_merge(self):
        factors = "train: {optimizer: {learning_rate_factors: {%s}}}"
        self.write(factors % "backbone: 0.1, head: 1", "a.yaml")
        path = self.write(f"base: a.yaml\n{factors % 'top/sppf: 10, head: 2'}")
        config = load_config(path, ["train.optimizer.learning_rate_factors.neck/top_down=3"])
        expected = {"backbone": 0.1, "head": 2.0, "top/sppf": 10.0, "neck/top_down": 3.0}
        self.assertEqual(config.train.optimizer.learning_rate_factors, expected)
        self.assertEqual(Config().train.optimizer.learning_rate_factors, {})

    def test_cycle_missing_base_and_two_bases_are_refused(self):
        path = self.write("base: b.yaml", "a.yaml")
        self.write("base: a.yaml", "b.yaml")
        self.assert_refused(lambda: load_config(path), "base", "come back to itself", "a.yaml")
        self.assert_refused(lambda: load_config(self.write("base: no.yaml")), str(self.folder / "no.yaml"), "No such")
        self.assert_refused(lambda: load_config(self.write("base: [a.yaml, b.yaml]")), "base", "one file")


class OverrideTest(ConfigTestCase):
    def test_overrides_win_in_order(self):
        overrides = [
            "train.epochs=60",
            "model.attention=[{kind: gam}]",
            "model.attention.0.reduction=2",
            "train.epochs=50",
        ]
        config = load_config(CONFIGS / "yolov8_n.yaml", overrides)
        self.assertEqual(config.train.epochs, 50)
        self.assertEqual(config.model.attention[0].arguments, {"reduction": 2})
        self.assertEqual(apply_overrides(Config(), ["data.cache=null"]).data.cache, None)
        self.assertEqual(apply_overrides(Config(), ["model.levels.0=P3"]), Config())
        self.assertEqual(apply_overrides(Config(), ["data.path=/a=b"]).data.path, "/a=b")

    def test_settings_that_hold_together_only_are_checked_after_all_overrides(self):
        config = apply_overrides(Config(), ["data.image_size=96", "model.levels=[P2, P3]", "data.image_size=72"])
        self.assertEqual(config.data.image_size, 72)

    @parameterized.parameters(
        ("train.epochs", "", "expected an override like", "'train.epochs'"),
        ("=3", "", "expected an override like"),
        ("train..epochs=3", "", "expected an override like"),
        ("train.epoch=3", "train.epoch", "did you mean epochs?"),
        ("train.epochs.x=3", "train.epochs.x", "received the value 100"),
        ("model.levels.3=P6", "model.levels.3", "below 3"),
        ("model.levels.x=P6", "model.levels.x", "below 3"),
        ("train.epochs=[", "train.epochs", "expected YAML"),
        ("train.epochs=", "train.epochs", "received null"),
        ("model.backbone={size: s, size: n}", "model.backbone", "twice"),
    )
    def test_bad_override_is_named(self, override, path, *parts):
        self.assert_refused(lambda: apply_overrides(Config(), [override]), path, *parts)


class SaveTest(ConfigTestCase):
    def test_round_trip_and_nothing_left_beside(self):
        config = apply_overrides(
            Config(),
            [
                "train.optimizer.learning_rate=1.0e-5",
                "data.class_names=['1e-3', 'no', 'Größe', '*x']",
                "data.path=/a b",
                "train.optimizer.learning_rate_factors={backbone: 0.1, '1e-3': 2}",
            ],
        )
        path = self.folder / "saved.yaml"
        save_config(config, path)
        save_config(config, path)
        self.assertEqual(load_config(path), config)
        self.assertEqual(os.listdir(self.folder), ["saved.yaml"])

    def test_failure_leaves_the_old_file(self):
        with self.assertRaisesRegex(InputError, "Cannot write"):
            save_config(Config(), self.folder / "missing" / "saved.yaml")
        target = self.folder / "folder"
        target.mkdir()
        with self.assertRaisesRegex(InputError, "Cannot write"):
            save_config(Config(), target)
        self.assertEqual(os.listdir(self.folder), ["folder"])

    @hypothesis.given(
        names=st.lists(
            st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1), min_size=1, unique=True
        )
    )
    @hypothesis.settings(deadline=None, max_examples=25)
    def test_any_class_names_round_trip(self, names):
        config = Config(data=DataConfig(class_names=names))
        save_config(config, self.folder / "saved.yaml")
        self.assertEqual(load_config(self.folder / "saved.yaml"), config)


class FuzzTest(ConfigTestCase):
    @hypothesis.given(
        st.binary(max_size=200) | st.text(alphabet="[]{}:,-?!&*|>'\"#%@ \nabP31.e", max_size=80).map(str.encode)
    )
    @hypothesis.settings(deadline=2000, max_examples=200)
    def test_any_bytes_give_a_config_or_a_config_error(self, content):
        try:
            self.assertIsInstance(load_config(self.write(content)), Config)
        except ConfigError as error:
            self.assertNotIn("\n", str(error))

    @parameterized.parameters(
        "a: {" * 20000, "- " * 60000, "1:" * 60000 + "1", "a: " + "1:" * 60000 + "1.5", "{a: 1, " * 9000
    )
    def test_hostile_files_are_refused_quickly(self, text):
        path = self.write(text)
        start = time.monotonic()
        with self.assertRaises(ConfigError):
            load_config(path)
        self.assertLess(time.monotonic() - start, 5)


class ReferenceTest(ConfigTestCase):
    def blocks(self, block):
        yield block
        for field in dataclasses.fields(block):
            if isinstance(getattr(block, field.name), Block):
                yield from self.blocks(getattr(block, field.name))

    def test_every_setting_is_documented(self):
        for block in self.blocks(Config()):
            self.assertTrue(type(block).__doc__)
            for field in dataclasses.fields(block):
                if not isinstance(getattr(block, field.name), Block):
                    self.assertRegex(field.metadata["doc"], r"^.{15,110}\.$", f"{type(block).__name__}.{field.name}")

    def test_plain_dict_goes_back(self):
        self.assertEqual(Config.from_mapping(config_to_dict(Config())), Config())


if __name__ == "__main__":
    absltest.main()
