"""One small set in every layout that is read, with drawn spelling of its folders and paths."""

import json
import random

import numpy as np
import yaml
from PIL import Image

CLASSES = ("red", "blue")
SIZE = (48, 32)  # width, height
STYLES = {  # how an entry of a list or json is spelled; {} is the path inside the set, with slashes
    "posix": "{}",
    "windows": "{}",
    "absolute": "/content/drive/MyDrive/set 1/{}",
    "drive": "D:/data/set/{}",
    "above": "../{}",
    "own folder": "plates-4/{}",
}
SPELLINGS = {"lower": str.lower, "title": str.title, "upper": str.upper}


def spell(style, path):
    """A path inside the set as another machine wrote it."""
    text = STYLES[style].format(path)
    return text.replace("/", "\\") if style in ("windows", "drive") else text


def boxes_of(number):
    """(label, x, y, width, height) of an image: pixels that YOLO's fractions of 48 x 32 hold exactly."""
    draw = random.Random(number)
    return [(draw.randrange(2), draw.randrange(20), draw.randrange(12), 12, 8) for _ in range(2)]


def write_image(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((SIZE[1], SIZE[0], 3), 10 * number, np.uint8)
    Image.fromarray(pixels).save(path)


def yolo_rows(number):
    rows = (
        (label, (x + w / 2) / SIZE[0], (y + h / 2) / SIZE[1], w / SIZE[0], h / SIZE[1])
        for label, x, y, w, h in boxes_of(number)
    )
    return "".join(" ".join(map(repr, row)) + "\n" for row in rows)


def write_yolo_file(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yolo_rows(number))


def coco_json(names):
    """COCO json of images by number, `names` are their file names."""
    annotations = [
        {"image_id": number, "category_id": label, "bbox": [x, y, w, h]}
        for number in names
        for label, x, y, w, h in boxes_of(number)
    ]
    images = [{"id": n, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for n, name in names.items()]
    categories = [{"id": label, "name": name} for label, name in enumerate(CLASSES)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def voc_xml(number):
    objects = "".join(
        f"<object><name>{CLASSES[label]}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax>"
        f"<ymax>{y + h}</ymax></bndbox></object>"
        for label, x, y, w, h in boxes_of(number)
    )
    return f"<annotation><size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>{objects}</annotation>"


def write_coco(folder, numbers, style, case, split):
    """annotations/instances_{split}.json and images/{split}."""
    place = f"{case('images')}/{case(split)}"
    for number in numbers:
        write_image(folder / place / f"{number:03}.png", number)
    names = {n: spell(style, f"{place}/{n:03}.png") for n in numbers}
    file = folder / case("annotations") / f"instances_{case(split)}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(coco_json(names))


def write_one_json(folder, numbers, style, case, split):  # noqa: ARG001 (it has only one)
    """result.json and images/, as Label Studio writes them."""
    for number in numbers:
        write_image(folder / case("images") / f"{number:03}.png", number)
    names = {n: spell(style, f"{case('images')}/{n:03}.png") for n in numbers}
    (folder / "result.json").write_text(coco_json(names))


def write_yaml_folder(folder, numbers, style, case, split):
    """data.yaml that names a folder of images."""
    place = f"{case('images')}/{case(split)}"
    for number in numbers:
        write_image(folder / place / f"{number:03}.png", number)
        write_yolo_file(folder / case("labels") / case(split) / f"{number:03}.txt", number)
    names = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
    content = {split: spell(style, place), "names": list(CLASSES)}
    (folder / case(names[len(style) % 4])).write_text(yaml.safe_dump(content))


def write_yaml_list(folder, numbers, style, case, split):
    """data.yaml that names a list of images."""
    place = f"{case(split)}/{case('images')}"
    for number in numbers:
        write_image(folder / place / f"{number:03}.png", number)
        write_yolo_file(folder / case(split) / case("labels") / f"{number:03}.txt", number)
    (folder / "list.txt").write_text("".join(spell(style, f"{place}/{n:03}.png") + "\n" for n in numbers))
    content = {split: spell(style, "list.txt"), "names": list(CLASSES)}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))


def write_darknet(folder, numbers, style, case, split):
    """obj.data, obj.names, a list and obj_{split}_data, as CVAT writes YOLO 1.1."""
    place = f"obj_{case(split)}_data"
    for number in numbers:
        write_image(folder / place / f"{number:03}.png", number)
        write_yolo_file(folder / place / f"{number:03}.txt", number)
    (folder / f"{split}.txt").write_text("".join(spell(style, f"{place}/{n:03}.png") + "\n" for n in numbers))
    (folder / "obj.names").write_text("".join(f"{name}\n" for name in CLASSES))
    entries = {"classes": "2", split: spell(style, f"{split}.txt"), "names": spell(style, "obj.names")}
    (folder / case("obj.data")).write_text("".join(f"{key} = {value}\n" for key, value in entries.items()))


def write_classes(folder, numbers, style, case, split):  # noqa: ARG001 (nothing names a path)
    """classes.txt, images/ and labels/, as Label Studio writes YOLO; folders per split inside."""
    for number in numbers:
        write_image(folder / case("images") / case(split) / f"{number:03}.png", number)
        write_yolo_file(folder / case("labels") / case(split) / f"{number:03}.txt", number)
    (folder / case("classes.txt")).write_text("".join(f"{name}\n" for name in CLASSES))


def write_voc(folder, numbers, style, case, split):
    """Annotations/, JPEGImages/ and ImageSets/Main/{split}.txt."""
    for number in numbers:
        write_image(folder / case("JPEGImages") / f"{number:03}.png", number)
        xml = folder / case("Annotations") / f"{number:03}.xml"
        xml.parent.mkdir(exist_ok=True)
        xml.write_text(voc_xml(number))
    lists = folder / case("ImageSets") / case("Main")
    lists.mkdir(parents=True)
    entries = [spell(style, f"JPEGImages/{n:03}{'.png' if n % 2 else ''}") for n in numbers]
    (lists / f"{case(split)}.txt").write_text("".join(f"{entry}\n" for entry in entries))
    (folder / case("labels.txt")).write_text("".join(f"{name}\n" for name in CLASSES))


SPLIT_LAYOUTS = {
    "coco": write_coco,
    "yaml folder": write_yaml_folder,
    "yaml list": write_yaml_list,
    "darknet": write_darknet,
    "classes.txt": write_classes,
    "voc": write_voc,
}
LAYOUTS = {**SPLIT_LAYOUTS, "one json": write_one_json}
