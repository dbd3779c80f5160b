"""Reader of Pascal VOC XML: a file an image."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from kyolo.data.builder import IndexBuilder, has_area, read_box
from kyolo.data.images import OTHER_FORMAT, OTHER_SUFFIXES, SUFFIXES, read_image_size
from kyolo.data.index import DatasetIndex
from kyolo.data.layout import DECIMALS, SPLITS, ReadOptions, check_class_names, split_of
from kyolo.data.outlines import points_box
from kyolo.data.paths import PathFinder, num_agreeing
from kyolo.data.sources import find_files, read_lines
from kyolo.data.values import as_side
from kyolo.data.xml import Element, read_xml
from kyolo.errors import InputError, is_line

LAYOUT = ".xml files (Pascal VOC)"
NAME_FILES = ("labels.txt", "classes.txt")
MASKS = {"SegmentationClass", "SegmentationObject"}  # folders of the original sets that hold no photographs
LISTS = ["imagesets", "main"]  # folders of the lists, in lower case
SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocSplit:
    """The files of a split.

    Attributes:
        class_names: in the order of the labels, those of the whole set.
        images: XML by image; None where there is none.
        lonely: XML files without an image.
        missing: names in the split's lists without an image.
        others: XML files of images in a format that is not read.
    """

    class_names: tuple[str, ...]
    images: dict[Path, Path | None]
    lonely: tuple[Path, ...]
    missing: tuple[str, ...]
    others: tuple[Path, ...] = ()


def find_splits(folder: Path, options: ReadOptions) -> dict[str, VocSplit]:
    """The splits that are there, by name: of lists, else of folders; what neither tells apart is "train"."""
    xmls = find_files(folder, (".xml",))
    if not xmls:
        return {}
    names = options.class_names or _read_names(folder) or _collect_names(xmls)
    pictures = [path for path in find_files(folder, SUFFIXES) if not MASKS.intersection(path.parts)]
    images, lonely = _pair(folder, pictures, xmls)
    splits, missing = _split(folder, images)
    stems = {path.stem for path in find_files(folder, OTHER_SUFFIXES)}
    for path in lonely:
        splits[split_of(path.relative_to(folder).parts[:-1]) or "train"].append(path)
    return {
        split: VocSplit(
            names,
            {path: images[path] for path in paths if path in images},
            tuple(path for path in paths if path not in images and path.stem not in stems),
            tuple(name for name in missing[split] if Path(name).stem not in stems),
            tuple(path for path in paths if path not in images and path.stem in stems),
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
    decimals; where they are missing, the box of the object's `polygon` is taken. Objects marked `difficult` (1, true or
    yes) are neither trained on nor counted in AP. What cannot be used is named by file
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
    for path in tqdm(sorted(files.images), "Reading labels", delay=2.0, unit="image", disable=None):
        name, xml = path.relative_to(root).as_posix(), files.images[path]
        if not builder.wants(name):
            continue
        if xml is None:
            builder.skip("image without XML", name)
            continue
        objects: list[Element] = []
        try:
            annotation = read_xml(xml)
            objects = _find_objects(annotation)
            size = _read_size(annotation) or read_image_size(path)
        except InputError as error:
            builder.skip("image or XML that cannot be read", _reason(error, folder), len(objects))
            continue
        image_id = builder.add_image(path, name, size)
        shown = xml.relative_to(folder)
        for element in objects:
            _add_object(builder, image_id, element, labels, f"{shown}:{element.line}")
    _skip_single(builder, folder, files)
    return builder.build()


def _skip_single(builder: IndexBuilder, folder: Path, files: VocSplit) -> None:
    """Names what should have an image, and has none."""
    for path in files.lonely:
        if builder.wants(path.name):
            builder.skip("XML without image", str(path.relative_to(folder)), _count_objects(path))
    for path in files.others:
        if builder.wants(path.name):
            builder.skip(OTHER_FORMAT, str(path.relative_to(folder)), _count_objects(path))
    for name in files.missing:
        if builder.wants(name):
            builder.skip("name in a list without image", name)


def _find_objects(annotation: Element) -> list[Element]:
    """Return the objects of an XML file, in order; some tools put them into a list of their own."""
    found = []
    for child in annotation.children:
        found += [child] if child.tag == "object" else _find_objects(child)
    return found


def _count_objects(xml: Path) -> int:
    """Return the number of objects of an XML file; 0 where it cannot be read."""
    try:
        return len(_find_objects(read_xml(xml)))
    except InputError:
        return 0


def _add_object(
    builder: IndexBuilder, image_id: int | None, element: Element, labels: dict[str, int], name: str
) -> None:
    class_name = element.find_text("name")
    if class_name not in labels:
        builder.skip("object of an unknown class" if class_name else "object without a name", name, boxes=1)
        return
    box, polygon = _read_corners(element), element.find("polygon")
    outline = None
    if polygon is not None and (box is None or not has_area(box)):
        outline = points_box(_find_texts(polygon, "x"), _find_texts(polygon, "y"))
    annotation = {
        "image_id": image_id,
        "category_id": labels[class_name] + 1,
        "bbox": outline or box,
        "iscrowd": element.find_text("difficult"),
    }
    if builder.add_annotation(annotation, name) and outline is not None:
        builder.note("box taken from the outline", name)


def _read_corners(element: Element) -> list[float] | None:
    """Return the COCO box of an object's `bndbox`; None where a side is missing or not a number."""
    corners = read_box([element.find_text(f"bndbox/{side}") for side in SIDES])
    if corners is None:
        return None
    x1, y1, x2, y2 = corners
    return [x1, y1, round(x2 - x1, DECIMALS), round(y2 - y1, DECIMALS)]


def _find_texts(element: Element, name: str) -> list[str]:
    """Return the texts of the elements `x`, or `x1`, `x2`, ..., within an element."""
    found = []
    for child in element.children:
        found += [child.text] if re.fullmatch(rf"{name}\d*", child.tag) else _find_texts(child, name)
    return found


def _read_size(annotation: Element) -> tuple[int, int] | None:
    """Return height and width; None where they are missing (some tools write 0) or not those of an image."""
    height, width = (as_side(annotation.find_text(f"size/{side}")) for side in ("height", "width"))
    return None if height is None or width is None else (height, width)


def _reason(error: InputError, folder: Path) -> str:
    return str(error).replace(f"{folder}{os.sep}", "")


def _read_names(folder: Path) -> tuple[str, ...] | None:
    """The class names that a file lists, one a line."""
    file = PathFinder(folder).match_file(*(folder / name for name in NAME_FILES))
    return None if file is None else check_class_names(_texts(file), source=file)


def _collect_names(xmls: list[Path]) -> tuple[str, ...]:
    names = set()
    for file in tqdm(xmls, "Reading class names", delay=2.0, unit="file", disable=None):
        try:
            names.update(element.find_text("name") for element in _find_objects(read_xml(file)))
        except InputError:
            continue  # It is named when its split is read.
    return tuple(sorted(name for name in names if name and is_line(name)))


def _pair(folder: Path, images: list[Path], xmls: list[Path]) -> tuple[dict[Path, Path | None], list[Path]]:
    """Pair images and XML of one name, the nearest first, never across splits.

    Returns:
        The XML by image, None without one, and the XML files that no image is left for.
    """
    by_stem = defaultdict(list)
    for image in images:
        by_stem[image.stem].append(image)
    splits = {path: split_of(path.relative_to(folder).parts[:-1]) for path in (*images, *xmls)}
    candidates = [
        (-len(os.path.commonpath([image.parent, xml.parent])), xml, image)
        for xml in xmls
        for image in by_stem[xml.stem]
        if None in (splits[xml], splits[image]) or splits[xml] == splits[image]
    ]
    pairs: dict[Path, Path | None] = dict.fromkeys(images)
    paired = set()
    for _, xml, image in sorted(candidates):
        if xml not in paired and pairs[image] is None:
            pairs[image] = xml
            paired.add(xml)
    return pairs, [xml for xml in xmls if xml not in paired]


def _split(folder: Path, images: dict[Path, Path | None]) -> tuple[dict[str, list[Path]], dict[str, list[str]]]:
    """Image paths by split, and by split the names in its lists that are no image's."""
    splits, missing, lines = defaultdict(list), defaultdict(list), _read_lists(folder)
    roots = {image: next((parent for parent in image.parents if parent in lines), None) for image in images}
    owned: dict[Path, set[str]] = {root: set() for root in lines}
    for image, root in roots.items():
        if root is not None:
            owned[root] |= {image.stem, image.name}
    lists = {
        root: {split: {_without_mark(line, owned[root]) for line in names} for split, names in by_split.items()}
        for root, by_split in lines.items()
    }
    for image, root in roots.items():
        if root is None:
            splits[split_of(image.relative_to(folder).parts[:-1]) or "train"].append(image)
    for root, by_split in lists.items():
        own = defaultdict(list)
        for image, its_root in roots.items():
            if its_root == root:
                for key in {image.stem, image.name}:
                    own[key].append(image)
        for split, names in by_split.items():
            listed = {name: _named(name, own) for name in names}
            splits[split] += sorted({image for found in listed.values() for image in found})
            missing[split] += sorted(name for name, found in listed.items() if not found)
    return splits, missing


def _without_mark(line: str, names: set[str]) -> str:
    """Return the name in a line: without the -1, 0 or 1 of class lists, unless an image has it in its name."""
    return line if _file_name(line) in names else re.sub(r"\s+(-1|0|1)$", "", line)


def _named(entry: str, images: dict[str, list[Path]]) -> list[Path]:
    """Return the images that an entry of a list means; of a path, those that agree with the longest tail of it."""
    found = images.get(entry, []) or images.get(_file_name(entry), [])
    longest = max((num_agreeing(entry, image) for image in found), default=0)
    return [image for image in found if num_agreeing(entry, image) == longest]


def _file_name(entry: str) -> str:
    """Return the last part of a path, as any system writes it."""
    return re.split(r"[\\/]", entry)[-1]


def _read_lists(folder: Path) -> dict[Path, dict[str, set[str]]]:
    """Return the lines of the lists of each split, by the folder that holds ImageSets."""
    lists = defaultdict(dict)
    files = [path for path in find_files(folder, (".txt",)) if [*map(str.lower, path.parts[-3:-1])] == LISTS]
    for main in {path.parent for path in files}:
        by_name = {path.stem.lower(): path for path in files if path.parent == main}
        for split, names in SPLITS.items():
            file = next((by_name[name] for name in names if name in by_name), None)
            if file is not None:
                lists[main.parents[1]][split] = set(_texts(file))
    return lists


def _texts(file: Path) -> Iterator[str]:
    """The lines of a file that hold something, without spaces around."""
    return filter(None, map(str.strip, read_lines(file)))


def _common_folder(images: dict[Path, Path | None]) -> Path:
    return Path(os.path.commonpath([path.parent for path in images])) if images else Path()
