"""A process of a distributed run, as the tests start it: `python worker.py WEIGHTS.npz DIE_AFTER train ...`.

It shows TensorFlow two devices where `train.distribute=mirrored` asks for several, writes the weights that it ends
with, of each of its replicas, and dies after a step of that number.
"""

import os
import signal
import sys

import numpy as np
import tensorflow as tf

from kyolo import cli
from kyolo.replicas import local_copies
from kyolo.training.recorder import RunRecorder


def main(weights, die_after, *arguments):
    if "train.distribute=mirrored" in arguments:
        (processor,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    end_step, finish = RunRecorder.on_train_batch_end, RunRecorder.finish

    def die(recorder, batch, logs=None):
        end_step(recorder, batch, logs)
        if recorder.state["step"] == int(die_after):
            os.kill(os.getpid(), signal.SIGKILL)

    def write(recorder):
        copies = {variable.path: local_copies(variable) for variable in recorder.detector.variables}
        copies |= {f"ema/{path}": local_copies(average) for path, average in recorder.detector.ema.averaged_variables()}
        np.savez(weights, **{path: np.stack([copy.numpy() for copy in found]) for path, found in copies.items()})
        return finish(recorder)

    RunRecorder.on_train_batch_end, RunRecorder.finish = die, write
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
