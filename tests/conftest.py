"""Settings that must stand before TensorFlow is imported: its C++ log is silent, and Keras runs on it."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line has it
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores among them already
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ["KERAS_BACKEND"] = "tensorflow"


def pytest_collection_modifyitems(items):
    """The longest first, so that no worker is left alone with one in the end (make test leaves this order as it is)."""
    items.sort(key=lambda item: "quickstart_learns" not in item.name)
