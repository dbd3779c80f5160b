"""One training run, from a configuration to a folder with weights and scores."""

import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from kyolo.config import Config, ConfigError, DataConfig, ModelConfig, image_hw, training_hw
from kyolo.data import (
    Augmentation,
    DataReport,
    ImageStore,
    Index,
    ReadOptions,
    ShardedIndex,
    Share,
    input_errors,
    load_index,
    make_dataset,
)
from kyolo.errors import InputError
from kyolo.evaluation.detect import NMSSettings, Predictor
from kyolo.files import write_text
from kyolo.losses import DetectionLoss
from kyolo.models.build import build_detector, build_loss
from kyolo.models.detector import Detector
from kyolo.training.batch_size import resolve_batch_size
from kyolo.training.checkpoint import load_checkpoint
from kyolo.training.distribution import Distribution, read_cluster, start_distribution
from kyolo.training.guard import FiniteGuard, name_images
from kyolo.training.optimizers import build_optimizer, freeze_layers, resolve_precision
from kyolo.training.recorder import RunRecorder
from kyolo.training.run_folder import (
    Run,
    check_new,
    complete_run,
    create_run,
    dtype_policy,
    from_scratch,
    locked,
    open_run,
)
from kyolo.weights.transfer import transfer_weights


def train(config: Config | None, output: str | os.PathLike, *, resume: bool = False) -> dict:
    """Trains a detector and writes the run's folder.

    Where TF_CONFIG names several machines, this is called on each of them. The first, the chief, alone writes and
    scores, and its configuration is that of all.

    Args:
        config: what to train, on what and how; `data.path` must be set. Not used with `resume`.
        output: the run's folder: a new one, or with `resume` the one to go on with.
        resume: go on after the last checkpoint of `output`, bit by bit as if the run had not been stopped. The
            configuration is then the run's.

    Returns:
        The scores of the best epoch, as in `metrics.json`.

    Raises:
        InputError: for bad data, a TF_CONFIG or a folder that cannot be used. Nothing is written then.
        ConfigError: for settings that do not fit the data, or the machine.
        ConnectionError: when another machine of the run is lost.
        NonFiniteError: when a loss or a weight is no finite number any more; the last checkpoint is from before.
    """
    path = Path(output)
    cluster = read_cluster(os.environ)
    if cluster is not None and cluster.worker > 0:
        config = None if resume else config
    elif resume:
        config = open_run(path).config
    else:
        check_new(path)
    with start_distribution(config and config.train, cluster) as distribution:
        return _prepare(distribution.share_config(config), path, resume, distribution)


def _prepare(config: Config, path: Path, resume: bool, distribution: Distribution) -> dict:
    """Does what can fail for the user's mistakes before the first file is written, then trains."""
    distribution.check(config.train)
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()  # for the rest of the process: there is no way back
    height, width = image_hw(config.data.image_size)
    store = ImageStore((height, width), fit=config.data.fit, cache=config.data.cache)
    train_index, val_index = load_indices(config, store)
    reports = {"train": train_index.problems, validation_split(config): val_index.problems}
    if distribution.is_chief:
        for split, report in reports.items():
            tqdm.write(f"{split}\n{report.table()}\n", file=sys.stderr)
    config = distribution.share_config(resolve(config, train_index))
    distribution.check_same_data(train_index)
    with dtype_policy(config.train.precision):
        restorable = distribution.from_chief(resume and Run(path, config).weights_path("last").exists())
        with distribution.scope():
            detector = _start(from_scratch(config.model) if restorable else config.model, config.train.seed)
        freeze_layers(detector, config.train.freeze)
        build_optimizer(config.train, 1, detector)
        loss = build_loss(config.model.loss, training_hw(config))
        with _open_folder(path, config, reports, resume) if distribution.is_chief else contextlib.nullcontext():
            return _train(Run(path, config), detector, loss, (train_index, val_index), store, distribution)


@contextlib.contextmanager
def _open_folder(path: Path, config: Config, reports: dict[str, DataReport], resume: bool) -> Iterator[None]:
    """Makes the folder of a new run, and keeps other processes from it for the time of a `with` block."""
    if not resume:
        create_run(path, config)
    with locked(path):
        complete_run(path)
        documents = {split: report.to_dict() for split, report in reports.items()}
        write_text(path / "data_report.json", json.dumps(documents, indent=2) + "\n")
        yield


def load_indices(config: Config, store: ImageStore) -> tuple[Index, Index]:
    """Reads the split that is trained on and the one that is scored."""
    train_index, val_index = (load_split(config.data, split, store) for split in ("train", validation_split(config)))
    if train_index.class_names != val_index.class_names:
        raise InputError(
            f"The splits of {config.data.path} differ in their classes: expected {list(train_index.class_names)} as in "
            f"train, received {list(val_index.class_names)}"
        )
    return train_index, val_index


def load_split(config: DataConfig, split: str, store: ImageStore | None = None) -> Index:
    """Reads a split of the data set that the configuration names, as it says.

    Raises:
        ConfigError: it names none.
        InputError: see `kyolo.data.load_index`.
    """
    if config.path is None:
        raise ConfigError("data.path", "missing; expected the folder of a data set (--data SET), received null")
    return load_index(config.path, split, read_options(config), store=store)


def read_options(config: DataConfig) -> ReadOptions:
    """How the configuration wants a data set to be read."""
    return ReadOptions(**{field.name: getattr(config, field.name) for field in dataclasses.fields(ReadOptions)})


def validation_split(config: Config) -> str:
    """The split that is scored at the end of epochs: "dev" where the configuration cuts one off, else "val"."""
    return "dev" if config.data.dev_fraction else "val"


def resolve(config: Config, index: Index) -> Config:
    """Fills in what the data and the machine decide: classes, precision and batch size.

    Raises:
        ConfigError: when the configuration names other classes than the data, or accumulates more batches than there
            are.
    """
    names, count = config.data.class_names, config.model.num_classes
    if names not in (None, index.class_names):
        raise ConfigError(
            "data.class_names", f"expected {list(index.class_names)} as in the data, received {list(names)}"
        )
    if count not in (None, len(index.class_names)):
        raise ConfigError("model.num_classes", f"expected {len(index.class_names)} as in the data, received {count}")
    if config.data.repeat_threshold is not None and isinstance(index, ShardedIndex):
        raise ConfigError(
            "data.repeat_threshold",
            f"expected null with TFRecords, which are read in the order of their files, received "
            f"{config.data.repeat_threshold}",
        )
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_classes=len(index.class_names)),
        data=dataclasses.replace(config.data, class_names=index.class_names),
        train=dataclasses.replace(config.train, precision=resolve_precision(config.train.precision)),
    )
    batch_size = resolve_batch_size(config, index)
    steps, accumulated = (
        config.train.epochs * math.ceil(index.num_images / batch_size),
        config.train.optimizer.accumulate_steps,
    )
    if accumulated > steps:
        problem = f"expected at most {steps}, the batches of the whole training, or no update would be made"
        raise ConfigError("train.optimizer.accumulate_steps", f"{problem}; received {accumulated}")
    return dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=batch_size))


def _start(model: ModelConfig, seed: int) -> Detector:
    """Builds the detector with the weights that training starts from."""
    detector = build_detector(model, seed=seed)
    if model.weights is not None:
        _carry_over(detector, model.weights)
    return detector


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
    shared = {"image_size": store.image_size, "fit": store.fit, "cache": store}

    def batches(start_step, share=Share()):  # noqa: B008 (frozen)
        return make_dataset(
            train_index,
            "train",
            batch_size=config.train.batch_size,
            augment=Augmentation(**dataclasses.asdict(config.augment)),
            seed=config.train.seed,
            epochs=config.train.epochs,
            start_step=start_step,
            share=share,
            repeat_threshold=config.data.repeat_threshold,
            stride=detector.strides[-1],
            **shared,
        )

    val = make_dataset(val_index, validation_split(config), batch_size=config.evaluation.batch_size, **shared)
    first = batches(0)
    steps_per_epoch = first.steps_per_epoch
    if config.data.repeat_threshold is not None and distribution.is_chief:
        shown = f"{first.images_per_epoch} images: of the {train_index.num_images}, those with rare classes again"
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
    data = {"train": train_index.fingerprint(), validation_split(config): val_index.fingerprint()}
    guard = FiniteGuard(run, steps_per_epoch, lambda step: name_images(batches(step), train_index))
    recorder = RunRecorder(run, Predictor(detector, nms), val, steps_per_epoch, data, guard, distribution)
    recorder.restore()
    while not recorder.finished:
        # More than one round only after a checkpoint within an epoch: `fit` can begin with an epoch, not within one.
        epoch, done = divmod(recorder.state["step"], steps_per_epoch)
        with input_errors(train_index, val_index), contextlib.closing(recorder.progress):
            detector.fit(
                distribution.distribute(partial(batches, recorder.state["step"])),
                initial_epoch=epoch,
                epochs=epoch + 1 if done else config.train.epochs,
                steps_per_epoch=steps_per_epoch - done,
                callbacks=[recorder],
                verbose=0,
            )
    return recorder.finish()


def _carry_over(detector: Detector, source: str) -> None:
    """Starts from the weights of a run or a checkpoint."""
    path = Path(source)
    checkpoint = load_checkpoint(path / "weights" / "best.npz" if path.is_dir() else path)
    report = transfer_weights(detector, checkpoint.group("ema") or checkpoint.group("model"))
    tqdm.write(report.summary(), file=sys.stderr)
    # Other classes than before are no mistake: those logits start anew.
    wrong = [path for path, _, _ in report.mismatched if "_class_" not in path]
    if wrong or not report.placed:
        raise ConfigError(
            "model.weights",
            f"expected weights whose shapes agree with the model's, received {source} with {len(wrong)} others and "
            f"{len(report.placed)} that fit",
        )
