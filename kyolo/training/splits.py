"""The splits of a configuration's data set, and the batches made of them."""

import dataclasses

from kyolo.config import Config, ConfigError, DataConfig, image_hw
from kyolo.data import Augmentation, ImageStore, Index, ReadOptions, TrainStream, check_index, load_index
from kyolo.errors import InputError


def make_store(config: Config) -> ImageStore:
    """Where the images of both splits are kept, fitted to the network's size."""
    return ImageStore(image_hw(config.data.image_size), fit=config.data.fit, cache=config.data.cache)


def load_splits(config: Config, store: ImageStore) -> tuple[Index, Index]:
    """Reads the split that is trained on and the one that is scored.

    Raises:
        ConfigError: see `load_split`.
        InputError: see `load_split`; the train split has no boxes, or the splits have different classes.
    """
    splits = ("train", validation_split(config))
    indices = [load_split(config.data, split, check_images=False) for split in splits]
    if not indices[0].problems.boxes:
        raise InputError(
            f"{config.data.path}, split 'train': expected boxes to train on, got {indices[0].num_images} images "
            f"without annotations. Check that the labels are where docs/data.md says."
        )
    store.plan({path: size for index in indices for path, size in index.image_sizes().items()})
    train_index, val_index = (
        check_index(index, f"{config.data.path}, split {split!r}", strict=config.data.strict, store=store)
        for split, index in zip(splits, indices, strict=True)
    )
    if train_index.class_names != val_index.class_names:
        raise InputError(
            f"The splits of {config.data.path} differ in their classes: expected {list(train_index.class_names)} as in "
            f"train, received {list(val_index.class_names)}"
        )
    return train_index, val_index


def load_split(config: DataConfig, split: str, store: ImageStore | None = None, *, check_images: bool = True) -> Index:
    """Read a split of the data set that the configuration names, as it says.

    Args:
        config: the data block.
        split: "train", "val", "test" or "dev".
        store: keeps the images that the check decodes.
        check_images: whether every image is decoded once.

    Raises:
        ConfigError: it names none.
        InputError: see `kyolo.data.load_index`.
    """
    if config.path is None:
        raise ConfigError("data.path", "missing; expected the folder of a data set (--data SET), received null")
    return load_index(config.path, split, read_options(config), store=store, check_images=check_images)


def read_options(config: DataConfig) -> ReadOptions:
    """How the configuration wants a data set to be read."""
    return ReadOptions(**{field.name: getattr(config, field.name) for field in dataclasses.fields(ReadOptions)})


def validation_split(config: Config) -> str:
    """The split that is scored at the end of epochs: "dev" where the configuration cuts one off, else "val"."""
    return "dev" if config.data.dev_fraction else "val"


def train_stream(config: Config, index: Index, store: ImageStore, stride: int) -> TrainStream:
    """The batches of training.

    Args:
        config: its recipe.
        index: the split that is trained on.
        store: of its images.
        stride: the network's largest, for `augment.multi_scale`.
    """
    return TrainStream(
        index,
        store,
        Augmentation(**dataclasses.asdict(config.augment)),
        batch_size=config.train.batch_size,
        seed=config.train.seed,
        repeat_threshold=config.data.repeat_threshold,
        stride=stride,
    )
