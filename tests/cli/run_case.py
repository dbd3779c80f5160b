"""A run that commands can open, made without training."""

import dataclasses
from unittest import mock

import numpy as np

import kyolo
from kyolo.data.shapes import CLASS_NAMES, write_shapes
from kyolo.training import Checkpoint, Run, save_checkpoint
from kyolo.training.run_folder import create_run
from tests.test_case import TestCase


class RunTestCase(TestCase):
    """Commands see a run with an untrained narrow detector: it finds weak boxes everywhere."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        config = kyolo.Config(model={"backbone": {"size": "p"}, "num_classes": 5})
        cls.detector = kyolo.build_detector(config.model, image_size=64, class_names=CLASS_NAMES)
        cls.config = config

    def setUp(self):
        super().setUp()
        self.shapes = self.folder / "shapes"
        write_shapes(self.shapes, train=1, val=3, image_size=64)
        data = kyolo.config.DataConfig(path=str(self.shapes), class_names=CLASS_NAMES, image_size=64)
        run = create_run(self.folder / "run", dataclasses.replace(self.config, data=data))
        arrays = {f"model/{variable.path}": np.asarray(variable) for variable in self.detector.variables}
        save_checkpoint(run.weights_path("best"), Checkpoint(arrays, {"epoch": 7}))
        # The same detector again and again: building one takes seconds.
        self.enterContext(mock.patch.object(Run, "load_detector", return_value=self.detector))
