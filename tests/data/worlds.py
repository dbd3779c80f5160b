"""Data sets drawn by Hypothesis in three formats, with what a reader must make of them."""

import io
import json
from collections import Counter
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

import hypothesis.strategies as st
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 30
NAMES = ("cell", "wall", "a & <b>", "no")
KINDS = ("normal",) * 5 + (
    "crowd",
    "flat",
    "outside",
    "twice",
    "outline",
    "sticks out",
    "no box",
    "no class",
    "odd flag",
)
STATES = ("good",) * 4 + ("missing", "empty", "half")
YES, NO, ODD = (1, "1", "true", "Yes", 1.0), (0, "0", "false", "NO", 0.0, None), ("Unspecified", -1, "2", "x")
WRONG_ROWS = ("0.5 0.5 nan 0.1", "0.5,0.5,0.1,0.1", "0.5 0.5 0.1 0.1 0.9", "5 5 5 5", "")


def _encode(kind):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


CONTENT = {kind: _encode(kind) for kind in ("JPEG", "PNG")}


@dataclass
class Thing:
    """An object: its class, what is odd about it, its box x1, y1, x2, y2, and how its flag is written."""

    name: str
    kind: str
    box: tuple[int, ...]
    flag: object


@dataclass
class Picture:
    """An image: its name without suffix, whether its file is good, and its objects."""

    name: str
    state: str
    things: list[Thing] = field(default_factory=list)

    def expected(self, *, yolo=False):
        """What is used of it, by class and box, and the number of crowds; None for an image that cannot be used.

        YOLO has no crowds, and no boxes that are more than 1% larger than the image.
        """
        if self.state != "good":
            return None
        used, crowd = Counter(), 0
        for thing in self.things:
            x1, y1, x2, y2 = thing.box
            if yolo and x2 - x1 > 1.01 * WIDTH:
                continue
            if thing.kind == "crowd" and not yolo:
                crowd += 1
            elif thing.kind in ("normal", "crowd", "outline", "odd flag", "sticks out"):
                used[(thing.name, (x1, y1, min(x2, WIDTH), min(y2, HEIGHT)))] += 1
        return used, crowd


@st.composite
def pictures(draw):
    """The images of a split; the first is good and has a box, so that there is something to train on."""
    names = draw(st.lists(st.sampled_from(("a", "b", "photo 0", "sub/c", "d.e", "train/f")), min_size=1, unique=True))
    drawn = []
    for number, name in enumerate(names):
        kinds = draw(st.lists(st.sampled_from(KINDS), max_size=6))
        picture = Picture(name, draw(st.sampled_from(STATES)) if number else "good")
        for place, kind in enumerate(kinds if number else ["normal", *kinds]):
            x, y = 3 * place, 2 * place
            box = {
                "flat": (x, y, x, y + 5),
                "outside": (WIDTH + 1 + x, y, WIDTH + 9 + x, y + 5),
                "sticks out": (x, y, WIDTH + 7, y + 5),
            }.get(kind, (x, y, x + 7, y + 5))
            flags = YES if kind == "crowd" else ODD if kind == "odd flag" else NO
            thing = Thing(draw(st.sampled_from(NAMES)), kind, box, draw(st.sampled_from(flags)))
            if kind == "twice":
                before = [other for other in picture.things if other.kind in ("normal", "outline")]
                if not before:
                    thing.kind = "flat"
                    thing.box = (x, y, x + 5, y)
                else:
                    thing.name, thing.box = before[-1].name, before[-1].box
            picture.things.append(thing)
        drawn.append(picture)
    return drawn


def write_picture(file, state, number):
    """Writes an image file: whole, empty or cut in half, or not at all."""
    content = CONTENT["JPEG" if number % 2 else "PNG"]
    if state != "missing":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes({"good": content, "empty": b"", "half": content[: len(content) // 2]}[state])


def write_coco(folder, split, drawn, spelling, names):
    """COCO json; ids are written as `spelling` says, and two images share an id. Returns the number of boxes."""
    categories = {name: 3 * number for number, name in enumerate(names, 1)}
    images, annotations = [], []
    for number, picture in enumerate(drawn):
        file_name = f"{picture.name}{('.png', '', '.jfif', '.JPG')[number % 4]}"
        write_picture(folder / split / file_name, picture.state, number)
        images.append({"id": spelling(number), "file_name": file_name, "width": WIDTH, "height": HEIGHT})
        for thing in picture.things:
            x1, y1, x2, y2 = thing.box
            entry = {
                "image_id": spelling(number),
                "category_id": spelling(categories[thing.name]),
                "iscrowd": thing.flag,
            }
            if thing.kind == "outline":
                entry["segmentation"] = [[x1, y1, x2, y1, x2, y2], [x1, y1, x1, y2, x2, y2]]
            elif thing.kind == "no box":
                entry["bbox"] = [x1, y1, "wide", 4]
            else:
                entry["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            if thing.kind == "no class":
                entry["category_id"] = 77
            annotations.append(entry)
    for name in ("same", "id"):
        write_picture(folder / split / f"{name}.png", "good", 0)
        images.append({"id": 50, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT})
        annotations.append({"image_id": 50, "category_id": 3, "bbox": [1, 1, 5, 5]})
    annotations += [{"image_id": 99, "category_id": 3, "bbox": [1, 1, 5, 5]}, {"image_id": True}, "text"]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": spelling(category_id), "name": name} for name, category_id in categories.items()],
    }
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return len(annotations)


def write_yolo(folder, split, drawn, names):
    """YOLO labels, and a label file that has no image. Returns the number of boxes."""
    rows = {"lonely": ["0 0.5 0.5 0.1 0.1", "", "0 0.2 0.2 0.1 0.1"]}
    for number, picture in enumerate(drawn):
        write_picture(folder / f"images/{split}/{picture.name}.{('png', 'jpg')[number % 2]}", picture.state, number)
        rows[picture.name] = []
        for thing in picture.things:
            x1, y1, x2, y2 = (value / side for value, side in zip(thing.box, (WIDTH, HEIGHT) * 2, strict=True))
            x, y, w, h = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
            label = 99 if thing.kind == "no class" else names.index(thing.name)
            text = f"{label} {x!r} {y!r} {w!r} {h!r}"
            if thing.kind == "outline":
                text = f"{label} {x1!r} {y1!r} {x2!r} {y1!r} {x2!r} {y2!r}"
            elif thing.kind == "no box":
                text = f"{label} {WRONG_ROWS[number % len(WRONG_ROWS)]}"
            rows[picture.name].append(text)
    for name, lines in rows.items():
        file = folder / f"labels/{split}/{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {json.dumps(list(names))}\n")
    return sum(bool(line) for lines in rows.values() for line in lines)


def write_voc(folder, split, drawn, names):
    """XML files, and one that has no image. Returns the number of boxes."""
    things = {"lonely": [Thing("cell", "normal", (1, 1, 5, 5), None)]}
    for number, picture in enumerate(drawn):
        name = picture.name.replace("train/", "")  # in VOC this would be another split
        write_picture(folder / f"{split}/{name}.{('png', 'jpg')[number % 2]}", picture.state, number)
        things[name] = picture.things
    for name, objects in things.items():
        lines = [f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"]
        for thing in objects:
            x1, y1, x2, y2 = thing.box
            title = "ghost" if thing.kind == "no class" else thing.name
            box = f"<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
            if thing.kind == "outline":
                box = (
                    f"<polygon><x1>{x1}</x1><y1>{y1}</y1><x2>{x2}</x2><y2>{y1}</y2><x3>{x2}</x3><y3>{y2}</y3></polygon>"
                )
            elif thing.kind == "no box":
                box = box.replace("<xmin>", "<xmin>one")
            flag = "" if thing.flag is None else f"<difficult>{thing.flag}</difficult>"
            lines.append(f"<object><name>{escape(title)}</name>{flag}{box}</object>")
        file = folder / split / f"{name}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("<annotation>" + "\n".join(lines) + "</annotation>")
    (folder / "labels.txt").write_text("\n".join(names))
    return sum(map(len, things.values()))
