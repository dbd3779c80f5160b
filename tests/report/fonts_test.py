"""Labels in any script: no character is drawn as the box of a missing glyph, and no two names look alike."""

import io
import itertools
import os
import random
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized
from fontTools.ttLib import TTFont
from matplotlib import get_data_path
from PIL import ImageFont

from kyolo.errors import InputError
from kyolo.report import fonts
from kyolo.report.fonts import missing_characters, split_by_font
from kyolo.report.pictures import draw_detections
from tests.test_case import TestCase

DEJAVU = os.path.join(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
NAMES = (
    "cell", "Käfer", "красный", "ερυθρό", "红细胞", "赤いりんご", "빨간색", "سيارة حمراء", "מכונית", "लाल गाड़ी",
    "লাল", "சிவப்பு", "รถสีแดง", "մեքենա", "წითელი", "መኪና", "ລົດ", "🚗", "红 apple", "红 apples", "nai\u0308ve",
)  # fmt: skip


def characters_of(font):
    """The characters that a font has, as another library reads them from its table."""
    source = font.path if isinstance(font.path, str) else io.BytesIO(font.font_bytes)
    return set(map(chr, TTFont(source, fontNumber=0).getBestCmap()))


def with_fonts(*files):
    """Let those fonts be all that there are."""
    fonts._find.cache_clear()
    return mock.patch.object(fonts, "_font_files", return_value=files)


class FontsTest(TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(fonts._find.cache_clear)

    @parameterized.parameters(((),), (("",),), (("", DEJAVU),))
    def test_every_part_is_of_a_font_that_has_its_characters(self, files):
        with with_fonts(*files) if files else mock.patch.dict(os.environ):
            for name in NAMES:
                for part, font in split_by_font(name, 20):
                    self.assertContainsSubset(set(part) - {" "}, characters_of(font), name)

    @parameterized.parameters((("",),), (("", DEJAVU),))
    def test_different_names_give_different_pictures(self, files):
        image = np.full((60, 600, 3), 128, np.uint8)
        box = {"boxes": [[10, 30, 50, 50]], "labels": [0]}
        with with_fonts(*files):
            drawn = {name: draw_detections(image, box, [name]).tobytes() for name in NAMES}
        for first, second in itertools.combinations(NAMES, 2):
            self.assertNotEqual(drawn[first], drawn[second], (first, second))

    def test_what_a_font_has_is_what_its_table_says(self):
        draw = random.Random(0)
        points = [*range(0x21, 0x250), *(draw.randrange(0x250, 0x20000) for _ in range(500))]
        characters = [chr(point) for point in points if not 0xD800 <= point < 0xE000 and chr(point).isprintable()]
        table = characters_of(ImageFont.truetype(DEJAVU, 20))
        different = [each for each in characters if fonts._has_glyph(DEJAVU, each) != (each in table)]
        self.assertEmpty(different)

    def test_code_points_where_no_font_has_a_character(self):
        with with_fonts(""):
            texts = [[part for part, _ in split_by_font(text, 20)] for text in ("红细 a", "x红", "लि")]
            self.assertEqual(texts, [["U+7EA2 U+7EC6 a"], ["x U+7EA2"], ["U+0932 U+093F"]])
            self.assertEqual(missing_characters("红a红细"), "红细")
        self.assertEqual(missing_characters("cell, Käfer"), "")

    def test_words_from_right_to_left_are_laid_out_together(self):
        with with_fonts("", DEJAVU):
            parts = [part for part, _ in split_by_font("سيارة حمراء 0.93", 20)]
        self.assertEqual(parts, ["سيارة حمراء", " 0.93"])

    def test_kyolo_font_comes_first(self):
        self.addCleanup(fonts._font_files.cache_clear)
        (self.folder / "own").mkdir()
        (self.folder / "own" / "font.ttf").symlink_to(DEJAVU)
        for value in (self.folder / "own", self.folder / "own" / "font.ttf"):
            with mock.patch.dict(os.environ, {"KYOLO_FONT": str(value)}):
                fonts._find.cache_clear()
                [(_, font)] = split_by_font("cell", 20)
            self.assertEqual(font.getname()[0], "DejaVu Sans")

    @parameterized.parameters("missing.ttf", "broken.ttf", "empty")
    def test_a_kyolo_font_that_is_none(self, name):
        (self.folder / "empty").mkdir()
        (self.folder / "broken.ttf").write_text("no font")
        fonts._find.cache_clear()
        path = self.folder / name
        refused = self.assertRaisesRegex(InputError, f"^KYOLO_FONT: expected a font file .* got {path}.$")
        with mock.patch.dict(os.environ, {"KYOLO_FONT": str(path)}), refused:
            split_by_font("cell", 20)


if __name__ == "__main__":
    absltest.main()
