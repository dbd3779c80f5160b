"""The same images and boxes in another format."""

import io
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.sax.saxutils import escape

import yaml
from tqdm import tqdm

from kyolo.data.images import SUFFIXES, image_suffix
from kyolo.data.index import DatasetIndex
from kyolo.data.layout import DECIMALS, FORMATS, ReadOptions, split_of
from kyolo.data.load import list_splits, load_index
from kyolo.data.report import DataReport
from kyolo.data.sharded_index import Index, ShardedIndex
from kyolo.data.shards import write_index_file, write_shards
from kyolo.data.voc import MASKS
from kyolo.data.yolo_files import label_file
from kyolo.errors import InputError, to_line
from kyolo.files import new_output


def convert(
    source: str | os.PathLike,
    output: str | os.PathLike,
    to: str,
    options: ReadOptions | None = None,
    *,
    copy: bool = False,
    shards: int | None = None,
) -> dict[str, DataReport]:
    """Write a data set in another format.

    Kept are the images byte for byte with their names and splits, the classes in their order, and the boxes, to the
    last digit for coordinates of up to 9 decimals. Where the splits list different classes, all get the classes of all
    splits, by name. COCO and VOC keep crowds as `iscrowd` and `difficult`, TFRecords as COCO; YOLO cannot express them,
    so they are left out there and named in the report, and boxes that stick far out of their image are clipped there.
    VOC and YOLO have no ids; outlines are not kept. In YOLO and VOC an image gets another name, noted in the report,
    where its own could not be read back: without the suffix of an image, in a hidden folder, or in a folder that is
    called like a split.

    Args:
        source: folder of the data set, as for `load_index`.
        output: new folder.
        to: "coco" (`SET/{split}/` and `annotations/`), "yolo" (`images/{split}/`, `labels/{split}/` and `data.yaml`) or
            "voc" (images and XML side by side in `{split}/`, and `labels.txt`); or "tfrecord"
            (`{split}-00000-of-00016.tfrecord` and so on, images included, and `tfrecord.json`), which keeps ids too.
        options: how `source` is read.
        copy: copy the images; otherwise they are hard links where the file system allows it.
        shards: of "tfrecord", number of files of each split. Default: as few as keep each below about 128 MB.

    Returns:
        A report by split, with what was left out.

    Raises:
        InputError: the source cannot be read, its splits have different classes, the output exists, or the format takes
            two images for one.
    """
    options = options or ReadOptions()
    _check(to, options, shards, copy=copy)
    with new_output(output, folder=True) as folder:
        folder.mkdir()
        splits = list_splits(Path(source), options)
        indices = {split: load_index(source, split, options) for split in splits}
        _check_classes(indices)
        if to == "tfrecord":
            written = {split: write_shards(folder, split, index, shards) for split, index in indices.items()}
            write_index_file(folder, indices[splits[0]], written)
            return {split: index.problems for split, index in indices.items()}
        ids = indices[splits[0]].category_ids
        reports = {}
        for split, index in indices.items():
            reports[split] = _write_split(folder, split, _with_category_ids(index, ids), to, copy=copy)
        WRITERS[to].finish(folder, splits, indices[splits[0]].class_names)
        return reports


def _check(to: str, options: ReadOptions, shards: int | None, *, copy: bool) -> None:
    """Raises InputError for what no conversion can do."""
    if to not in FORMATS:
        raise InputError(f"Unknown format: expected one of {', '.join(FORMATS)}, received {to!r:.80}")
    if options.dev_fraction:
        raise InputError(
            f"expected no dev_fraction to convert, received {options.dev_fraction}: files know no such split"
        )
    if shards is not None and (to != "tfrecord" or shards < 1):
        raise InputError(f"expected shards of tfrecord only, and 1 or more, received {shards} of {to}")
    if copy and to == "tfrecord":
        raise InputError("expected no copies of images (--copy) with tfrecord, which holds them itself, received both")


def _check_classes(indices: dict[str, Index]) -> None:
    """Raise InputError where splits differ in their classes: YOLO, VOC and TFRecords name them once."""
    (first, index), *others = indices.items()
    for split, other in others:
        if other.class_names != index.class_names:
            raise InputError(
                f"The splits differ in their classes: expected {list(index.class_names)} as in {first}, received "
                f"{list(other.class_names)} in {split}"
            )


def _with_category_ids(index: Index, category_ids: tuple[int, ...]) -> Index:
    """Return the index with other ids of its classes, so that an id means the same class in every split."""
    if isinstance(index, ShardedIndex) or index.category_ids == category_ids:
        return index
    ids = dict(zip(index.category_ids, category_ids, strict=True))
    annotations = [{**entry, "category_id": ids[entry["category_id"]]} for entry in index.truth["annotations"]]
    categories = [{**entry, "id": ids[entry["id"]]} for entry in index.truth["categories"]]
    truth = {**index.truth, "annotations": annotations, "categories": categories}
    return replace(index, category_ids=category_ids, truth=truth)


def _write_split(folder: Path, split: str, index: Index, to: str, *, copy: bool) -> DataReport:
    """Writes images and annotations; returns the report, with what was left out."""
    writer = WRITERS[to]
    images, renamed = _place_images(index, folder / writer.images / split, to, copy=copy)
    index = index.load() if isinstance(index, ShardedIndex) else index
    left_out = writer.write_split(folder, split, index, images)
    report = index.problems
    if left_out:
        report = replace(
            report,
            crowds=report.crowds - len(left_out),
            problems={**report.problems, "left out: crowd": left_out},
            boxes_skipped={**report.boxes_skipped, "left out: crowd": len(left_out)},
        )
    return replace(report, notes={**report.notes, "image renamed": renamed}) if renamed else report


def _place_images(
    index: Index, folder: Path, to: str, *, copy: bool
) -> tuple[dict[int, PurePosixPath], tuple[str, ...]]:
    """Place the images; return their names in `folder` by id, and those that got another name."""
    placed: dict[int, PurePosixPath] = {}
    taken: dict[PurePosixPath, str] = {}
    renamed = []
    images = tqdm(_images(index), "Placing images", index.num_images, delay=2.0, unit="image", disable=None)
    for image_id, file_name, source in images:
        # A name may come from outside: it does not lead out of this folder.
        inside = PurePosixPath(*(part for part in PurePosixPath(file_name).parts if part not in ("/", "..")))
        name = inside if to == "coco" else _readable(inside, source, to)
        if name != inside:
            renamed.append(to_line(f"{inside} -> {name}"))
        origin = file_name if isinstance(source, bytes) else str(source)
        key = name if to == "coco" else name.with_suffix("")  # of YOLO and VOC the suffix tells no two apart
        if key in taken:
            raise InputError(f"{origin}: expected images of different names, received {taken[key]} too; rename one")
        taken[key] = origin
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(source, target, copy=copy)
        placed[image_id] = name
    return placed, tuple(renamed)


def _readable(name: PurePosixPath, source: Path | bytes, to: str) -> PurePosixPath:
    """Return the name under which the reader of YOLO or VOC finds an image."""
    *folders, file = name.parts
    if to == "voc":
        folders = [f"_{part}" if split_of((part,)) or part in MASKS else part for part in folders]
    parts = [f"_{part}" if part.startswith(".") else part for part in (*folders, file)]
    if not file.lower().endswith(SUFFIXES):
        parts[-1] += image_suffix(io.BytesIO(source) if isinstance(source, bytes) else source, name)
    return PurePosixPath(*parts)


def _images(index: Index) -> Iterator[tuple[int, str, Path | bytes]]:
    """Id, name, and file or content of every image."""
    if isinstance(index, ShardedIndex):
        for example in index.examples():
            yield example.image_id, example.image["file_name"], example.content
    else:
        names = {image["id"]: image["file_name"] for image in index.truth["images"]}
        for record in index.records:
            yield record.image_id, names[record.image_id], Path(record.path)


def _place(source: Path | bytes, target: Path, *, copy: bool) -> None:
    if isinstance(source, bytes):
        target.write_bytes(source)
        return
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
        for label, bbox, crowd in by_image[record.image_id]:
            if crowd:
                left_out.append(str(images[record.image_id]))
            else:
                rows.append(" ".join(map(repr, (label, *_fractions(bbox, record.width, record.height)))))
        _write_lines(label_file(folder, folder / "images" / split / images[record.image_id]), rows)
    return tuple(left_out)


def _fractions(bbox: list, width: int, height: int) -> tuple[float, ...]:
    """Centre and sides as YOLO has them; a box is clipped that sticks out so far that they leave 0..1."""
    x, y, w, h = bbox
    found = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
    if all(0 <= value <= 1 for value in found):
        return found
    x1, x2 = (min(max(value, 0), width) for value in (x, x + w))
    y1, y2 = (min(max(value, 0), height) for value in (y, y + h))
    return (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height


def _finish_yolo(folder: Path, splits: Sequence[str], class_names: Sequence[str]) -> None:
    content = {split: f"images/{split}" for split in splits} | {"names": list(class_names)}
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def _write_voc(folder: Path, split: str, index: DatasetIndex, images: dict[int, PurePosixPath]) -> tuple[str, ...]:
    by_image = _by_image(index)
    for record in index.records:
        name = images[record.image_id]
        lines = ["<annotation>", f"  <folder>{split}</folder>", f"  <filename>{escape(to_line(name.name))}</filename>"]
        lines.append(f"  <size><width>{record.width}</width><height>{record.height}</height><depth>3</depth></size>")
        for label, (x, y, width, height), crowd in by_image[record.image_id]:
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + width, y + height), strict=True)
            sides = "".join(f"<{side}>{_number(value)}</{side}>" for side, value in corners)
            head = f"<name>{escape(index.class_names[label])}</name><difficult>{crowd}</difficult>"
            lines.append(f"  <object>{head}<bndbox>{sides}</bndbox></object>")
        _write_lines(folder / split / name.with_suffix(".xml"), [*lines, "</annotation>"])
    return ()


def _finish_voc(folder: Path, splits: Sequence[str], class_names: Sequence[str]) -> None:  # noqa: ARG001 (as for yolo)
    _write_lines(folder / "labels.txt", class_names)


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


def _write_lines(file: Path, lines: Iterable[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


class _Writer(NamedTuple):
    """How a format is written.

    Attributes:
        images: folder of the splits' folders of images.
        write_split: writes the annotations of one; takes (folder, split, index, names by image id), returns what it
            had to leave out.
        finish: writes what stands once for all; takes (folder, splits, class names).
    """

    images: str
    write_split: Callable[..., tuple[str, ...]]
    finish: Callable[..., None]


WRITERS = {
    "coco": _Writer("", _write_coco, lambda *_: None),
    "yolo": _Writer("images", _write_yolo, _finish_yolo),
    "voc": _Writer("", _write_voc, _finish_voc),
}
