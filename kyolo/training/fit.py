"""One training run, from a configuration to a folder with weights and scores."""

import contextlib
import dataclasses
import os
import sys
from functools import partial
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from kyolo.config import Config, training_hw
from kyolo.data import ImageStore, Index, input_errors, plain_batches
from kyolo.evaluation.detect import NMSSettings, Predictor
from kyolo.losses import DetectionLoss
from kyolo.models.build import build_loss
from kyolo.models.detector import Detector
from kyolo.training.cluster import read_cluster
from kyolo.training.distribution import Distribution, start_distribution
from kyolo.training.guard import FiniteGuard, name_images
from kyolo.training.optimizers import build_optimizer
from kyolo.training.recorder import RunRecorder
from kyolo.training.resolving import resolve
from kyolo.training.resuming import resumed_config
from kyolo.training.run_folder import Run, check_new, dtype_policy, from_scratch, training_folder
from kyolo.training.splits import load_splits, make_store, train_stream, validation_split
from kyolo.training.start import start_detector


def train(config: Config | None, output: str | os.PathLike, *, resume: bool = False) -> dict:
    """Train a detector and write its run directory.

    Where TF_CONFIG names several machines, this is called on each of them. The first, the chief, alone writes and
    scores, and its configuration is that of all.

    Args:
        config: what to train, on what and how; `data.path` must be set. With `resume`: None, or the configuration that
            the run was started with, in which `data.path` may name the new place of the same data.
        output: the run directory: a new one, or with `resume` the one to continue.
        resume: continue after the last checkpoint of `output`, bit by bit as if the run had not been stopped. The
            configuration is then the run's.

    Returns:
        The scores of the best epoch, as in `metrics.json`.

    Raises:
        InputError: for bad data, a TF_CONFIG or a folder that cannot be used. Nothing is written then.
        ConfigError: for settings that do not fit the data, or the machine.
        WorkerLostError: when another machine of the run is lost.
        NonFiniteError: when a loss or a weight is no finite number any more; the last checkpoint is from before.
    """
    path = Path(output)
    cluster = read_cluster(os.environ)
    if cluster is not None and cluster.worker > 0:
        config = None if resume else config
    elif resume:
        config = resumed_config(path, config)
    else:
        check_new(path)
    with start_distribution(config and config.train, cluster) as distribution:
        return _prepare(distribution.share_config(config), path, resume, distribution)


def _prepare(config: Config, path: Path, resume: bool, distribution: Distribution) -> dict:
    """Does what can fail for the user's mistakes before the first file is written, then trains."""
    distribution.check(config.train)
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()  # for the rest of the process: there is no way back
    store = make_store(config)
    train_index, val_index = load_splits(config, store)
    reports = {"train": train_index.problems, validation_split(config): val_index.problems}
    if distribution.is_chief:
        for split, report in reports.items():
            tqdm.write(f"{split}\n{report.table()}\n", file=sys.stderr)
    config = distribution.share_config(resolve(config, train_index, distribution.replicas))
    distribution.check_same_data(_fingerprints(config, (train_index, val_index)))
    with dtype_policy(config.train.precision):
        restorable = distribution.from_chief(resume and Run(path, config).weights_path("last").exists())
        with distribution.scope():
            model = from_scratch(config.model) if restorable else config.model
            detector = start_detector(dataclasses.replace(config, model=model))
        build_optimizer(config.train, 1, detector)
        loss = build_loss(config.model.loss, training_hw(config))
        folder = training_folder(path, config, reports, resume=resume)
        with folder if distribution.is_chief else contextlib.nullcontext():
            return _train(Run(path, config), detector, loss, (train_index, val_index), store, distribution)


def _train(
    run: Run,
    detector: Detector,
    loss: DetectionLoss,
    indices: tuple[Index, Index],
    store: ImageStore,
    distribution: Distribution,
) -> dict:
    config = run.config
    train_index, val_index = indices
    stream = train_stream(config, train_index, store, detector.strides[-1])
    batches = partial(stream.batches, config.train.epochs)
    val = plain_batches(val_index, store, config.evaluation.batch_size)
    steps_per_epoch = stream.steps_per_epoch
    if config.data.repeat_threshold is not None and distribution.is_chief:
        shown = f"{stream.images_per_epoch} images: of the {train_index.num_images}, those with rare classes again"
        tqdm.write(f"an epoch shows {shown} (data.repeat_threshold)\n", file=sys.stderr)
    with distribution.scope():
        detector.compile(
            optimizer=build_optimizer(config.train, steps_per_epoch, detector),
            loss=loss,
            ema_decay=config.train.ema.decay or None,
            jit_compile=config.train.jit_compile,
        )
    evaluation = config.evaluation
    nms = NMSSettings(evaluation.confidence, evaluation.iou, evaluation.max_detections, evaluation.multi_label)
    guard = FiniteGuard(
        run,
        steps_per_epoch,
        lambda step: name_images(batches(start_step=step), train_index),
        is_chief=distribution.is_chief,
    )
    data = _fingerprints(config, indices)
    recorder = RunRecorder(run, Predictor(detector, nms), val, steps_per_epoch, data, guard, distribution)
    recorder.restore()
    while not recorder.finished:
        # More than one round only after a checkpoint within an epoch: `fit` can begin with an epoch, not within one.
        epoch, done = divmod(recorder.state["step"], steps_per_epoch)
        with input_errors(train_index, val_index), contextlib.closing(recorder.progress):
            detector.fit(
                distribution.distribute(partial(batches, start_step=recorder.state["step"])),
                initial_epoch=epoch,
                epochs=epoch + 1 if done else config.train.epochs,
                steps_per_epoch=steps_per_epoch - done,
                callbacks=[recorder],
                verbose=0,
            )
    return recorder.finish()


def _fingerprints(config: Config, indices: tuple[Index, Index]) -> dict[str, str]:
    """What tells the data of a run from other data, by split."""
    splits = ("train", validation_split(config))
    return {split: index.fingerprint() for split, index in zip(splits, indices, strict=True)}
