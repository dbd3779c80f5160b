"""Any bytes given as a configuration: a `Config` that can be saved, or one clear line, soon, and nothing is run."""

import logging
import time

import hypothesis.strategies as st
import pytest
from absl.testing import absltest

from kyolo.config import Config, ConfigError, config_to_dict, load_config, save_config
from kyolo.errors import is_line
from tests.data.mutations import BIG, NUMBERS, TEXTS, damaged, run
from tests.test_case import TestCase

MAX_SECONDS = 1.0
TOUCHED = "touched"  # the file that code in a configuration would make.

TAGS = (
    "!!python/object/apply:os.system [touch {file}]",
    "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{file}]]",
    '!!python/object/new:type {{args: ["x", !!python/tuple [], {{"extend": !!python/name:exec }}], listitems: "1"}}',
    "!!python/object/apply:open [{file}, w]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!binary YQ==",
    "!!set {{a, b}}",
    "!!float 1",
    "!x y",
)
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)
LINES = ("train: {epochs: 3, epochs: 4}", "? [1]\n: 2", "<<: {a: 1}", "%YAML 9.9", "%TAG ! x", "---", "...", "&a a: *a")
LINES += (
    BOMB,
    "a: " + "[" * 900,
    "{a: " * 900,
    "- " * 900,
    "1:" * 900,
    "base: no.yaml",
    "base: .",
    "base: config.yaml",
)
LINES += (
    'base: "a\\0b"',
    r'base: "\ud800"',
    r'base: "a\nb"',
    "base: [a]",
    f"base: {'x' * 5000}",
    "base: 3",
    "base: {}",
)
VALUES = (
    "null",
    "true",
    "[]",
    "{}",
    "[P3, P4]",
    "[{kind: gam}]",
    "{kind: siou}",
    "gam",
    "0x" + "f" * 5000,
    "0b",
    "1:30",
)
VALUES += (
    ".nan",
    ".inf",
    "-.inf",
    "1.0e+400",
    "1.0e-400",
    "5.0e-324",
    "2001-01-01",
    "'a",
    "|\n  a",
    ">-\n  a",
    "@",
    "`",
)
VALUES += (r'"\ud800"', r'"\ud83d\ude00"', r'"\u2028"', r'"\x85"', r'"\0"', r'"\U00110000"', r'"\uFFFE"', "[" * 900)
VALUES += (BIG[:400], "1" + "0" * 308, "1_000", "0o17", "017", "~", "=", "<<", "*x", "&x 3", *NUMBERS)


def settings(mapping, path=()):
    """The dotted path of every block and setting."""
    for key, value in mapping.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from settings(value, (*path, key))


SETTINGS = sorted(settings(config_to_dict(Config())))


@st.composite
def texts(draw, file):
    """YAML of some settings, most of which are good, with a line or a tag that does not belong there now and then."""
    tags = st.sampled_from(TAGS).map(lambda tag: tag.format(file=file))
    quoted = st.one_of(st.sampled_from(TEXTS), st.text(max_size=20)).map(lambda text: f'"{text}"')
    value = st.one_of(st.sampled_from(("1", "3", "0.5", "32", "gam", "null")), st.sampled_from(VALUES), quoted, tags)
    lines = []
    for path in draw(st.lists(st.sampled_from(SETTINGS), max_size=3, unique_by=lambda path: path[0])):
        *parents, last = path
        lines.append("".join(f"{{{name}: " for name in parents) + f"{{{last}: {draw(value)}" + "}" * len(path))
    lines = [line[1:-1] if "\n" not in line else line for line in lines]
    if draw(st.integers(0, 4)) == 0:
        lines.insert(draw(st.integers(0, len(lines))), draw(st.one_of(st.sampled_from(LINES), tags)))
    return draw(st.sampled_from(("\n", "\n", "\r\n", "\n\n# x\n"))).join(lines)


class QuickConfigFuzzTest(TestCase):
    """A few examples."""

    examples = 100

    def setUp(self):
        super().setUp()
        self.slowest = self.configs = 0

    def check(self, content):
        file, saved = self.folder / "config.yaml", self.folder / "saved.yaml"
        file.write_bytes(content)
        start = time.thread_time()
        try:
            config = load_config(file)
        except ConfigError as error:
            config = None
            self.assertTrue(is_line(str(error)), str(error))
        seconds = time.thread_time() - start
        self.slowest = max(self.slowest, seconds)
        self.assertLess(seconds, MAX_SECONDS)
        if config is not None:
            self.configs += 1
            save_config(config, saved)
            self.assertEqual(load_config(saved), config)
        self.assertFalse((self.folder / TOUCHED).exists(), "code in a configuration was run")

    def fuzz(self, strategy):
        run(self.check, strategy, examples=self.examples)
        counts = f"{self.examples} examples, {self.configs} configurations"
        logging.info("%s: %s, slowest %.3f s", self.id(), counts, self.slowest)

    def test_nearly_good_files(self):
        self.fuzz(damaged(texts(self.folder / TOUCHED)))
        self.assertGreater(self.configs, self.examples // 20)

    def test_any_bytes(self):
        self.fuzz(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(lambda text: text.encode())))

    def test_every_tag_is_refused(self):
        for tag in [tag.format(file=self.folder / TOUCHED) for tag in TAGS]:
            for text in (tag, f"train: {tag}", f"data: {{path: {tag}}}", f"{tag}: 1"):
                self.check(text.encode())
        self.assertEqual(self.configs, 0)

    def test_every_setting_with_every_value(self):
        """All pairs once: they are few enough."""
        for path in SETTINGS[:: 1 if self.examples > 500 else 40]:
            for value in VALUES:
                text = "".join(f"{{{name}: " for name in path) + value + "}" * len(path)
                self.check(text.encode())


@pytest.mark.slow
class ConfigFuzzTest(QuickConfigFuzzTest):
    """Many examples."""

    examples = 2000


if __name__ == "__main__":
    absltest.main()
