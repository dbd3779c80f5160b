"""All settings, read from top to bottom: the blocks carry the names of the modules, in the order of the data's way.

"Reference" below is the published YOLOv8 recipe. Each default is typed here and nowhere else.
"""

from dataclasses import dataclass, field

from kyolo.config.blocks import Block, setting
from kyolo.config.errors import ConfigError
from kyolo.config.model import ModelConfig


@dataclass(frozen=True)
class DataConfig(Block):
    """The images, and how they enter the network."""

    path: str | None = setting(None, path=("",), doc="Folder of the data set (--data on the command line).")
    format: str | None = setting(
        None,
        choices=("coco", "yolo", "voc", "tfrecord"),
        doc="Of the annotations. Default: null, told by the files that are there.",
    )
    class_names: tuple[str, ...] | None = setting(
        None, doc="Names in the order of the labels. Default: from the data. Only VOC sets take another order."
    )
    allow_outside: bool = setting(False, doc="Read images outside the data set's folder too (--allow-outside).")
    image_size: int | tuple[int, int] = setting(
        640,
        minimum=32,
        maximum=8192,
        doc="Side of the network's input, or [height, width], in pixels. Default: reference.",
    )
    fit: str = setting(
        "letterbox", choices=("letterbox", "stretch"), doc="How images get that size: keeping their shape, or not."
    )
    cache: str | None = setting(
        "auto",
        choices=("auto", "memory", "disk"),
        doc="Where decoded images are kept (auto: in memory if they fit, else on disk); null, TFRecords: nowhere.",
    )
    strict: bool = setting(False, doc="Stop at the first bad image or box instead of skipping it (--strict).")
    val_fraction: float = setting(
        0.0,
        minimum=0,
        below=1,
        doc="Part of train cut off, by image hash, as split val, in a set that has none (--val-fraction).",
    )
    dev_fraction: float = setting(
        0.0,
        minimum=0,
        below=1,
        doc="Part of train cut off, by image hash, as split dev, not of TFRecords. Default: none.",
    )

    repeat_threshold: float | None = setting(
        None,
        above=0,
        maximum=1,
        doc="Images with a class that a smaller part of all has are shown more often; null: each once an epoch.",
    )

    def check(self) -> None:
        if self.class_names is not None and len(set(self.class_names)) < max(len(self.class_names), 1):
            names = ", ".join(self.class_names)
            raise ConfigError("class_names", f"expected one or more names, none twice, received [{names:.60}]")


@dataclass(frozen=True)
class AugmentConfig(Block):
    """Random changes of the training images. Defaults: the reference's."""

    mosaic: float = setting(1.0, minimum=0, maximum=1, doc="Probability that four images are put together.")
    close_mosaic: int = setting(
        10, minimum=0, doc="Last epochs without mosaic and multi_scale (all of them in shorter runs)."
    )
    degrees: float = setting(0.0, minimum=0, maximum=180, doc="Largest rotation, in degrees, either way.")
    translate: float = setting(0.1, minimum=0, maximum=1, doc="Largest shift, as a fraction of the image's side.")
    scale: float = setting(0.5, minimum=0, below=1, doc="Zoom between 1 - scale and 1 + scale.")
    shear: float = setting(0.0, minimum=0, below=90, doc="Largest shear, in degrees, either way.")
    hue: float = setting(
        0.015, minimum=0, maximum=1, doc="Largest turn of the hue, in half circles (0.015: 2.7 degrees)."
    )
    saturation: float = setting(0.7, minimum=0, maximum=1, doc="Factor of saturation between 1 - s and 1 + s.")
    value: float = setting(0.4, minimum=0, maximum=1, doc="Factor of brightness between 1 - v and 1 + v.")
    flip_horizontal: float = setting(0.5, minimum=0, maximum=1, doc="Probability of a left-right flip.")
    flip_vertical: float = setting(0.0, minimum=0, maximum=1, doc="Probability of an up-down flip.")
    multi_scale: float = setting(
        0.0, minimum=0, below=1, doc="Each batch has one size between 1 - m and 1 + m of data.image_size; 0: all alike."
    )


@dataclass(frozen=True)
class OptimizerConfig(Block):
    """The rule that moves the weights."""

    kind: str = setting("adamw", choices=("adamw", "sgd"), doc="Rule. Default: the reference's for short runs.")
    learning_rate: float = setting(
        0.002, above=0, doc="Learning rate, scaled by warm-up and decline. YOLOv8 uses 0.01 for sgd."
    )
    weight_decay: float = setting(5e-4, minimum=0, doc="Decay of kernels (no biases, no norms). Default: reference.")
    momentum: float = setting(
        0.9, minimum=0, below=1, doc="Momentum of sgd, beta 1 of adamw; reference for sgd: 0.937."
    )
    clip_norm: float | None = setting(10.0, above=0, doc="Largest global norm of the gradients; null: not clipped.")
    accumulate_steps: int = setting(
        1, minimum=1, doc="Batches whose gradients, summed as over one larger batch, make an update. Default: each."
    )
    learning_rate_factors: dict[str, float] = setting(  # noqa: RUF009 (a field)
        {}, above=0, doc="Factor of the step size by part or path of layers, the longest name counts. Default: none."
    )


@dataclass(frozen=True)
class ScheduleConfig(Block):
    """The step size over time."""

    kind: str = setting("linear", choices=("linear", "cosine"), doc="Shape of the decline, which starts at step 0.")
    warmup_epochs: float = setting(
        3.0,
        minimum=0,
        doc="Epochs of linear warm-up, half of a training that is not longer. The rate stays below learning_rate.",
    )
    final_fraction: float = setting(0.01, minimum=0, maximum=1, doc="Last learning rate / learning_rate.")


@dataclass(frozen=True)
class EMAConfig(Block):
    """The moving average of weights and batch-norm statistics that is evaluated and shipped.

    The decay is the reference's; its ramp of 2000 steps, which averages next to nothing in a short run, is not.
    """

    decay: float = setting(
        0.9999, minimum=0, below=1, doc="Part that update n keeps, but at most (1 + n) / (10 + n); 0: no average."
    )


@dataclass(frozen=True)
class TrainConfig(Block):
    """One training run."""

    epochs: int = setting(100, minimum=1, doc="Passes over the images. Default: the reference's.")
    batch_size: int | str = setting(
        16, minimum=1, choices=("auto",), doc="Images a step, over all replicas; auto: by memory. Default: reference."
    )
    seed: int = setting(0, minimum=0, maximum=2**31 - 1, doc="Number that every random choice is a function of.")
    precision: str = setting(
        "auto",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
        doc="Arithmetic of the convolutions; auto asks the processor, and its answer is written into the run's config.",
    )
    freeze: tuple[str, ...] = setting(
        (), doc="Parts, layers, or paths of layers that do not learn, as backbone, sppf or head/P3. Default: none."
    )
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    ema: EMAConfig = field(default_factory=EMAConfig)
    early_stopping: int | None = setting(
        None, minimum=1, doc="Epochs without a better AP that end the run; null: never."
    )
    time_limit: float | None = setting(
        None,
        above=0,
        duration=True,
        doc="Time after which the epoch is the last, such as 90m; the schedule does not know of it. Default: none.",
    )
    checkpoint_every: int | None = setting(
        None, minimum=1, doc="Steps between checkpoints within an epoch; null: none."
    )
    evaluate_every: int = setting(1, minimum=1, doc="Epochs between evaluations; the last one is always evaluated.")
    tensorboard: bool = setting(True, doc="Write TensorBoard logs into the run folder.")
    deterministic: bool = setting(
        False, doc="Repeat to the last bit on a GPU too, which costs time there; on a CPU every training does."
    )
    distribute: str | None = setting(
        None, choices=("mirrored",), doc="mirrored: over all GPUs of this machine. Several machines: see TF_CONFIG."
    )
    jit_compile: bool = setting(False, doc="Compile the step with XLA: a slow start, seldom faster on a CPU.")


@dataclass(frozen=True)
class EvaluationConfig(Block):
    """How predictions become detections. Defaults: the reference's validation; `kyolo predict` has two of its own."""

    confidence: float = setting(0.001, minimum=0, maximum=1, doc="Smallest score of a detection (predict: 0.25).")
    iou: float = setting(0.7, minimum=0, maximum=1, doc="Overlap above which NMS drops the lower of two, per class.")
    max_detections: int = setting(300, minimum=1, maximum=10000, doc="Largest number of detections an image.")
    multi_label: bool = setting(True, doc="Every class of a point above the threshold counts, or the best (predict).")
    batch_size: int = setting(16, minimum=1, doc="Images a step. Changes no result.")


@dataclass(frozen=True)
class Config(Block):
    """Everything that a run depends on."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def check(self) -> None:
        last = self.model.levels[-1]
        stride = 2 ** int(last[1:])
        if any(side % stride for side in image_hw(self.data.image_size)):
            expected = f"expected multiples of {stride}, the stride of {last}"
            raise ConfigError("data.image_size", f"{expected}, received {self.data.image_size}")
        names, num_classes = self.data.class_names, self.model.num_classes
        if None not in (names, num_classes) and len(names or ()) != num_classes:
            problem = f"expected {len(names or ())}, one for each of data.class_names, received {num_classes}"
            raise ConfigError("model.num_classes", problem)


def training_hw(config: Config) -> tuple[int, int] | None:
    """Return (height, width) of all training batches; None where `augment.multi_scale` gives each its own."""
    return None if config.augment.multi_scale else image_hw(config.data.image_size)


def image_hw(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of `data.image_size`, which is one number for square inputs."""
    return (image_size, image_size) if isinstance(image_size, int) else image_size
