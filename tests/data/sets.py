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
    (folder / split).mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for number, (name, width, height) in enumerate(images):
        pixels = np.random.default_rng(number).integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / split / name)
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


def annotation(bbox, *, image_id=1, category_id=1, **more):
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, **more}
