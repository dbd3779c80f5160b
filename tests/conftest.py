"""Settings that must stand before TensorFlow is imported: its C++ log is silent, and Keras runs on it."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line has it
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores among them already
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ["KERAS_BACKEND"] = "tensorflow"
