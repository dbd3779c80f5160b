import hypothesis
import hypothesis.strategies as st
from absl.testing import absltest, parameterized

from kyolo.data import ReadOptions, load_index
from kyolo.data.parts import Part
from kyolo.errors import InputError
from tests.data.sets import write_set, write_voc, write_yolo
from tests.test_case import TestCase

SPLITS = ("train", "val", "dev")


def parts(names, options, splits=SPLITS):
    """Names by split, as reading each split once or twice finds them."""
    found = {}
    for split in splits:
        part = Part(split, options)
        chosen = [name for name in names if part(name)]
        found[split] = [name for name in names if part(name)] if part.settle() else chosen
    return found


class PartTest(TestCase):
    @hypothesis.settings(max_examples=200)
    @hypothesis.given(
        names=st.lists(st.text("abc012", min_size=1, max_size=6), min_size=3, max_size=12, unique=True),
        val=st.floats(0.01, 0.45),
        dev=st.floats(0.01, 0.45),
    )
    def test_every_image_is_in_one_part_and_no_part_is_empty(self, names, val, dev):
        options = ReadOptions(val_fraction=val, dev_fraction=dev)
        found = parts(names, options)
        self.assertCountEqual([name for chosen in found.values() for name in chosen], names)
        self.assertGreaterEqual(min(map(len, found.values())), 1)
        # An image moves only if a part would be empty: more names of other hashes bring it back to its own side.
        many = [*names, *(f"more{number}" for number in range(400))]
        alone = {name: split for split, chosen in parts(many, options).items() for name in chosen}
        if all(split in {alone[name] for name in names} for split in SPLITS):
            self.assertEqual(
                {name: split for split, chosen in found.items() for name in chosen}, {n: alone[n] for n in names}
            )

    @parameterized.product(fraction=(0.01, 0.3, 0.9), count=(2, 3, 4), form=("coco", "yolo", "voc"))
    def test_few_images_of_every_format(self, fraction, count, form):
        images = [(f"frame_{number}.png", 4, 4) for number in range(count)]
        names = [name.removesuffix(".png") for name, _, _ in images]
        if form == "coco":
            write_set(self.folder, [], images=images)
        elif form == "yolo":
            write_yolo(self.folder, dict.fromkeys(names, "0 0.5 0.5 0.5 0.5"), images=images)
        else:
            write_voc(self.folder, {name: [("cell", 1, 1, 3, 3)] for name in names}, images=images)
        options = ReadOptions(val_fraction=fraction)
        found = [
            {record.path for record in load_index(self.folder, split, options).records} for split in ("train", "val")
        ]
        self.assertEmpty(found[0] & found[1])
        self.assertLen(found[0] | found[1], count)
        self.assertGreaterEqual(min(map(len, found)), 1)

    def test_one_image_cannot_be_parted(self):
        write_set(self.folder, [])
        with self.assertRaisesRegex(InputError, "--val-fraction: expected at least 2 images to cut off val, got 1"):
            load_index(self.folder, "val", ReadOptions(val_fraction=0.3))


if __name__ == "__main__":
    absltest.main()
