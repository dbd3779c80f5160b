"""The same images and boxes in another format."""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from xml.sax.saxutils import escape

import yaml
from tqdm import tqdm

from kyolo.data.index import DatasetIndex
from kyolo.data.layout import DECIMALS, ReadOptions
from kyolo.data.load import find_splits, load_index
from kyolo.data.report import DataReport
from kyolo.errors import InputError
from kyolo.files import new_output


def convert(
    source: str | os.PathLike,
    output: str | os.PathLike,
    to: str,
    options: ReadOptions | None = None,
    *,
    copy: bool = False,
) -> dict[str, DataReport]:
    """Writes a data set anew in another format.

    Kept are the images byte for byte with their names and splits, the classes in their order, and the boxes, to the
    last digit for coordinates of up to 9 decimals. COCO and VOC keep crowds as `iscrowd` and `difficult`; YOLO cannot
    say that, so they are left out there and named in the report. Ids are counted anew; outlines are not kept.

    Args:
        source: folder of the data set, as for `load_index`.
        output: new folder.
        to: "coco" (`SET/{split}/` and `annotations/`), "yolo" (`images/{split}/`, `labels/{split}/` and `data.yaml`) or
            "voc" (images and XML side by side in `{split}/`, and `labels.txt`).
        options: how `source` is read.
        copy: copy the images; otherwise they are hard links where the file system allows it.

    Returns:
        A report by split, with what was left out.

    Raises:
        InputError: the source cannot be read, the output exists, or names do not fit the format.
    """
    options = options or ReadOptions()
    splits = [*find_splits(Path(source), options)[1]]
    splits += ["val"] * bool(options.val_fraction) + ["dev"] * bool(options.dev_fraction)
    indices = {split: load_index(source, split, options) for split in splits}
    write, images_folder = WRITERS[to]
    with new_output(output) as folder:
        reports = {}
        for split, index in indices.items():
            images = _place_images(index, folder / images_folder.format(split=split), copy=copy)
            left_out = write(folder, split, index, images)
            problems = {**index.problems.problems, **({"left out: crowd": left_out} if left_out else {})}
            reports[split] = DataReport(**{**vars(index.problems), "problems": problems})
        return reports


def _place_images(index: DatasetIndex, folder: Path, *, copy: bool) -> dict[int, PurePosixPath]:
    """Links or copies the images; their names in `folder` by id."""
    names = {image["id"]: image["file_name"] for image in index.truth["images"]}
    placed, taken = {}, {}
    for record in tqdm(index.records, "Placing images", delay=2.0, unit="image", disable=None):
        # A name may come from outside: it does not lead out of this folder.
        parts = [part for part in PurePosixPath(names[record.image_id]).parts if part not in ("/", "..")]
        name = PurePosixPath(*parts)
        other = taken.setdefault(name.with_suffix(""), record.path)
        if other != record.path:
            raise InputError(f"{record.path}: expected images of different names, received {other} too; rename one")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(Path(record.path), target, copy=copy)
        placed[record.image_id] = name
    return placed


def _place(source: Path, target: Path, *, copy: bool) -> None:
    if not copy:
        try:
            target.hardlink_to(source.resolve())
        except OSError:  # Another file system, or none that has links.
            copy = True
    if copy:
        shutil.copyfile(source, target)


def _write_coco(folder: Path, split: str, index: DatasetIndex, images: dict[int, PurePosixPath]) -> tuple[str, ...]:
    entries = [
        {**image, "file_name": str(images[image["id"]])} for image in index.truth["images"] if image["id"] in images
    ]
    annotations = [entry for entry in index.truth["annotations"] if entry["image_id"] in images]
    content = {"images": entries, "annotations": annotations, "categories": index.truth["categories"]}
    file = folder / "annotations" / f"instances_{split}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    return ()


def _write_yolo(folder: Path, split: str, index: DatasetIndex, images: dict[int, PurePosixPath]) -> tuple[str, ...]:
    by_image = _by_image(index)
    left_out = []
    for record in index.records:
        rows = []
        for label, (x, y, width, height), crowd in by_image[record.image_id]:
            if crowd:
                left_out.append(str(images[record.image_id]))
            else:
                centre = ((x + width / 2) / record.width, (y + height / 2) / record.height)
                rows.append(" ".join(map(repr, (label, *centre, width / record.width, height / record.height))))
        _write_lines(folder / "labels" / split / images[record.image_id].with_suffix(".txt"), rows)
    file = folder / "data.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else {}
    content |= {split: f"images/{split}", "names": list(index.class_names)}
    file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return tuple(left_out)


def _write_voc(folder: Path, split: str, index: DatasetIndex, images: dict[int, PurePosixPath]) -> tuple[str, ...]:
    by_image = _by_image(index)
    for record in index.records:
        name = images[record.image_id]
        lines = ["<annotation>", f"  <folder>{split}</folder>", f"  <filename>{escape(name.name)}</filename>"]
        lines.append(f"  <size><width>{record.width}</width><height>{record.height}</height><depth>3</depth></size>")
        for label, (x, y, width, height), crowd in by_image[record.image_id]:
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + width, y + height), strict=True)
            sides = "".join(f"<{side}>{_number(value)}</{side}>" for side, value in corners)
            head = f"<name>{escape(index.class_names[label])}</name><difficult>{crowd}</difficult>"
            lines.append(f"  <object>{head}<bndbox>{sides}</bndbox></object>")
        _write_lines(folder / split / name.with_suffix(".xml"), [*lines, "</annotation>"])
    _write_lines(folder / "labels.txt", index.class_names)
    return ()


def _number(value: float) -> str:
    """Whole numbers without a point: many readers of VOC know no others."""
    value = round(value, DECIMALS)
    return repr(int(value) if value == int(value) else value)


def _by_image(index: DatasetIndex) -> dict[int, list[tuple[int, list, int]]]:
    """(label, COCO box, crowd) of every annotation by image."""
    labels = {category_id: label for label, category_id in enumerate(index.category_ids)}
    found = defaultdict(list)
    for entry in index.truth["annotations"]:
        found[entry["image_id"]].append((labels[entry["category_id"]], entry["bbox"], entry["iscrowd"]))
    return found


def _write_lines(file: Path, lines: list[str] | tuple[str, ...]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


# By format: what writes a split, and the folder of its images.
WRITERS: dict[str, tuple[Callable[..., tuple[str, ...]], str]] = {
    "coco": (_write_coco, "{split}"),
    "yolo": (_write_yolo, "images/{split}"),
    "voc": (_write_voc, "{split}"),
}
