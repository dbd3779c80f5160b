"""Small data sets that the tests of this folder write."""

import json

import numpy as np
from PIL import Image


def write_set(folder, annotations, *, images=None, categories=None, split="train"):
    """Writes SET/{split}/ with grey noise images and their json; returns the json's content.

    `images` are (file name, width, height), numbered from 1; `annotations` go into the json as they are.
    """
    images = [("a.png", 40, 20)] if images is None else images
    categories = [{"id": 1, "name": "cell"}] if categories is None else categories
    write_images(folder / split, images)
    (folder / "annotations").mkdir(exist_ok=True)
    content = {
        "images": [
            {"id": number, "file_name": name, "width": width, "height": height}
            for number, (name, width, height) in enumerate(images, 1)
        ],
        "annotations": annotations,
        "categories": categories,
    }
    (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return content


def write_yolo(folder, rows, *, images=None, names=("cell",), split="train"):
    """Writes SET/{split}/images and labels, and data.yaml; `rows` are the texts of the label files by name."""
    write_images(folder / split / "images", [("a.png", 40, 20)] if images is None else images)
    (folder / split / "labels").mkdir(exist_ok=True)
    for name, text in rows.items():
        content = text if isinstance(text, bytes) else text.encode()
        (folder / split / "labels" / f"{name}.txt").write_bytes(content)
    (folder / "data.yaml").write_text(f"{split}: {split}/images\nnames: {json.dumps(list(names))}\n")


def write_voc(folder, objects, *, images=None, split="train"):
    """Writes SET/{split} with images and XML; `objects` are (name, xmin, ymin, xmax, ymax) by the name of the image."""
    images = [("a.png", 40, 20)] if images is None else images
    write_images(folder / split, images)
    sizes = {name.rsplit(".", 1)[0]: (width, height) for name, width, height in images}
    for name, found in objects.items():
        (folder / split / f"{name}.xml").write_text(voc_xml(found, *sizes[name]))


def voc_xml(objects, width, height):
    lines = "\n".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        "</bndbox></object>"
        for name, x1, y1, x2, y2 in objects
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>\n{size}\n{lines}\n</annotation>"


def write_images(folder, images):
    """Writes noise images, (file name, width, height) each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, width, height) in enumerate(images):
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)


def annotation(bbox, *, image_id=1, category_id=1, **more):
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, **more}
