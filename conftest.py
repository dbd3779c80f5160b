"""What tests and doctests share: settings before TensorFlow is imported, and the names that examples use."""

import contextlib
import os
import pathlib
import shutil
from unittest import mock

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line has it
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores among them already
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ["KERAS_BACKEND"] = "tensorflow"


@pytest.fixture(scope="session")
def doctest_place(tmp_path_factory):
    """Write what the examples read: a drawn data set, a folder of images, a photo and a video."""
    import cv2
    import numpy as np

    from kyolo.data import write_shapes

    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(pathlib.Path(__file__).with_name("configs"), folder / "configs")
    write_shapes(folder / "path/to/set", train=8, val=4, image_size=64)
    shutil.copytree(folder / "path/to/set/val", folder / "images")
    shutil.copy(folder / "images/000000.jpg", folder / "photo.jpg")
    writer = cv2.VideoWriter(str(folder / "street.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (96, 64))
    for number in range(3):
        writer.write(np.full((64, 96, 3), 40 * number, np.uint8))
    writer.release()
    return folder


@pytest.fixture(scope="session")
def doctest_names(doctest_place):
    """Return the names that examples use without an import: packages, a tiny detector, its data and an image."""
    import keras
    import numpy as np
    import tensorflow as tf

    import kyolo

    train, val = (
        kyolo.data.make_dataset(doctest_place / "path/to/set", split, image_size=64, batch_size=4)
        for split in ("train", "val")
    )
    detector = kyolo.YOLOv8("p", train.class_names, image_size=64, levels=["P4", "P5"])
    image = kyolo.data.read_image(doctest_place / "photo.jpg")
    packages = {"keras": keras, "kyolo": kyolo, "np": np, "tf": tf}
    return {**packages, "detector": detector, "train": train, "val": val, "image": image}


@pytest.fixture(autouse=True)
def doctest_setup(request):
    """Run a doctest in a copy of the place, with its names; other tests are left as they are."""
    if not isinstance(request.node, pytest.DoctestItem):
        yield
        return
    from kyolo import registry

    names = request.getfixturevalue("doctest_names")
    folder = request.getfixturevalue("tmp_path") / "place"
    shutil.copytree(request.getfixturevalue("doctest_place"), folder)
    files = {"folder": folder, "image_file": "photo.jpg"}
    request.getfixturevalue("doctest_namespace").update(names | files)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(folder))
        for registered in registry._registered.values():
            stack.enter_context(mock.patch.dict(registered))
        yield
