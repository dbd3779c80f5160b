"""Reader of Pascal VOC XML: a file an image."""

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kyolo.data.builder import IndexBuilder, is_side
from kyolo.data.images import find_image_files, read_image_size
from kyolo.data.index import DatasetIndex
from kyolo.data.layout import DECIMALS, SPLITS, ReadOptions, check_class_names, read_lines, split_of
from kyolo.data.xml import Element, read_xml
from kyolo.errors import InputError, is_line

LAYOUT = (
    "Pascal VOC: an .xml an image, beside it or in a folder of its own, images in {train,val}/ or "
    "ImageSets/Main/{train,val}.txt naming them"
)
NAME_FILES = ("labels.txt", "classes.txt")
SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocSplit:
    """The files of a split.

    Attributes:
        class_names: in the order of the labels, those of the whole set.
        images: XML by image; None where there is none.
        lonely: XML files without an image.
    """

    class_names: tuple[str, ...]
    images: dict[Path, Path | None]
    lonely: tuple[Path, ...]


def find_splits(folder: Path, options: ReadOptions) -> dict[str, VocSplit]:
    """The splits that are there, by name: of lists, else of folders; what neither tells apart is "train"."""
    xmls = sorted(path for path in folder.rglob("*.xml") if not _is_hidden(path.relative_to(folder)))
    if not xmls:
        return {}
    names = options.class_names or _read_names(folder) or _collect_names(xmls)
    images, lonely = _pair(find_image_files(folder), xmls)
    splits = _split(folder, images)
    for path in lonely:
        splits[split_of(path.relative_to(folder).parts[:-1]) or "train"].append(path)
    return {
        split: VocSplit(
            names,
            {path: images[path] for path in paths if path in images},
            tuple(path for path in paths if path not in images),
        )
        for split, paths in splits.items()
    }


def read_split(
    folder: Path,
    files: VocSplit,
    options: ReadOptions,  # noqa: ARG001 (no file names another: nothing leads out)
    wanted: Callable[[str], bool] | None = None,
) -> DatasetIndex:
    """Reads the XML files of a split.

    xmin, ymin, xmax, ymax are taken as the edges of the box in pixels, as the tools write them today, with or without
    decimals. Objects marked `difficult` are neither trained on nor counted in AP. What cannot be used is named by file
    and line and skipped: objects without a name, a known class or four numbers, boxes without area. An image is skipped
    whose XML is missing, broken or of another size; a size that the XML does not give is the image's.

    Args:
        folder: the data set.
        files: of the split.
        options: nothing of them counts here.
        wanted: see `IndexBuilder`.
    """
    builder = IndexBuilder(files.class_names, wanted=wanted)
    labels = {name: label for label, name in enumerate(files.class_names)}
    root = _common_folder(files.images)
    for path in sorted(files.images):
        name, xml = path.relative_to(root).as_posix(), files.images[path]
        if not builder.wants(name):
            continue
        if xml is None:
            builder.skip("image without XML", name)
            continue
        try:
            annotation = read_xml(xml)
            size = _read_size(annotation) or read_image_size(path)
        except InputError as error:
            builder.skip("image or XML that cannot be read", _reason(error, folder))
            continue
        image_id = builder.add_image(path, name, size)
        shown = xml.relative_to(folder)
        for element in annotation.children:
            if element.tag == "object":
                _add_object(builder, image_id, element, labels, f"{shown}:{element.line}")
    for path in files.lonely:
        builder.skip("XML without image", str(path.relative_to(folder)))
    return builder.build()


def _add_object(builder: IndexBuilder, image_id: int, element: Element, labels: dict[str, int], name: str) -> None:
    class_name, box = element.find_text("name"), element.find("bndbox")
    if class_name not in labels:
        builder.skip("object of an unknown class" if class_name else "object without a name", name)
        return
    try:
        x1, y1, x2, y2 = (float(box.find_text(side)) for side in SIDES)
    except (AttributeError, TypeError, ValueError):  # no bndbox, a side missing, or no number
        builder.skip("box that is not four finite numbers", name)
        return
    difficult = (element.find_text("difficult") or "0") not in ("0", "false", "False")
    bbox = [x1, y1, round(x2 - x1, DECIMALS), round(y2 - y1, DECIMALS)]
    builder.add_annotation(
        {"image_id": image_id, "category_id": labels[class_name] + 1, "bbox": bbox, "iscrowd": difficult}, name
    )


def _read_size(annotation: Element) -> tuple[int, int] | None:
    """Height and width; None where they are not given (some tools write 0) or of no image."""
    try:
        height, width = (int(annotation.find_text(f"size/{side}")) for side in ("height", "width"))
    except (TypeError, ValueError):
        return None
    return (height, width) if is_side(height) and is_side(width) else None


def _reason(error: InputError, folder: Path) -> str:
    return str(error).replace(f"{folder}{os.sep}", "")


def _read_names(folder: Path) -> tuple[str, ...] | None:
    """The class names that a file lists, one a line."""
    file = next((folder / name for name in NAME_FILES if (folder / name).is_file()), None)
    return None if file is None else check_class_names(filter(None, map(str.strip, read_lines(file))), source=file)


def _collect_names(xmls: list[Path]) -> tuple[str, ...]:
    names = set()
    for file in xmls:
        try:
            names.update(element.find_text("name") for element in read_xml(file).children if element.tag == "object")
        except InputError:
            continue  # It is named when its split is read.
    return tuple(sorted(name for name in names if name and is_line(name)))


def _pair(images: list[Path], xmls: list[Path]) -> tuple[dict[Path, Path | None], list[Path]]:
    """XML by image: of the same name, and of several such the nearest; and the XML files that no image takes."""
    by_stem = defaultdict(list)
    for xml in xmls:
        by_stem[xml.stem].append(xml)

    def nearest(image: Path) -> Path | None:
        def shared(xml: Path) -> int:
            return len(os.path.commonpath([image.parent, xml.parent]))

        return max(by_stem.get(image.stem, ()), key=shared, default=None)

    pairs = {image: nearest(image) for image in images}
    taken = set(pairs.values())
    return pairs, [xml for xml in xmls if xml not in taken]


def _split(folder: Path, images: dict[Path, Path | None]) -> dict[str, list[Path]]:
    """Image paths by split."""
    lists = _read_lists(folder)
    splits = defaultdict(list)
    for image in images:
        root = next((parent for parent in image.parents if parent in lists), None)
        if root is not None:
            for split, stems in lists[root].items():
                if image.stem in stems:
                    splits[split].append(image)
        else:
            splits[split_of(image.relative_to(folder).parts[:-1]) or "train"].append(image)
    return splits


def _read_lists(folder: Path) -> dict[Path, dict[str, set[str]]]:
    """Names of the images of each split, by the folder that holds ImageSets."""
    lists = defaultdict(dict)
    for main in folder.rglob("ImageSets/Main"):
        for split, names in SPLITS.items():
            file = next((main / f"{name}.txt" for name in names if (main / f"{name}.txt").is_file()), None)
            if file is not None:
                lists[main.parents[1]][split] = {line.split()[0] for line in read_lines(file) if line.strip()}
    return lists


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _common_folder(images: dict[Path, Path | None]) -> Path:
    return Path(os.path.commonpath([path.parent for path in images])) if images else Path()
