"""The detector that a training starts from."""

import sys
from pathlib import Path

from tqdm import tqdm

from kyolo.config import Config, ConfigError, WeightsConfig
from kyolo.models.build import build_detector
from kyolo.models.detector import Detector
from kyolo.training.checkpoint import load_checkpoint
from kyolo.training.optimizers import freeze_layers
from kyolo.weights.transfer import transfer_weights


def start_detector(config: Config) -> Detector:
    """Builds the detector with the weights that training starts from, its frozen layers frozen.

    Raises:
        ConfigError: for weights or layers that do not fit the model.
        InputError: for weights that cannot be read.
    """
    detector = build_detector(config, seed=config.train.seed)
    if config.model.weights is not None:
        carry_over(detector, config.model.weights)
    freeze_layers(detector, config.train.freeze)
    return detector


def carry_over(detector: Detector, weights: WeightsConfig) -> None:
    """Starts from the weights of a run or a checkpoint, and prints what became of each.

    Raises:
        ConfigError: for weights or layers that do not fit the model.
        InputError: for weights that cannot be read.
    """
    path = Path(weights.path)
    if path.is_file() and path.suffix != ".npz":
        raise ConfigError(
            "model.weights",
            f"expected the folder of a run or an .npz checkpoint, received {path}; files of a backbone alone are "
            f"model.backbone.weights",
        )
    checkpoint = load_checkpoint(path / "weights" / "best.npz" if path.is_dir() else path)
    source = checkpoint.group("ema") or checkpoint.group("model")
    try:
        report = transfer_weights(detector, source, weights.skip)
    except ValueError as error:
        raise ConfigError("model.weights.skip", str(error)) from error
    tqdm.write(report.summary(), file=sys.stderr)
    mismatched = [path for path, _, _ in report.mismatched]
    # Another number of classes than before is no mistake: that branch starts anew where it depends on it.
    other_classes = any(path.endswith("_class_logits/bias") for path in mismatched)
    wrong = [path for path in mismatched if not (other_classes and "_class_" in path)]
    if wrong or not report.placed:
        raise ConfigError(
            "model.weights",
            f"expected weights whose shapes agree with the model's, received {path} with {len(wrong)} others and "
            f"{len(report.placed)} that fit; model.weights={{path: ..., skip: [...]}} leaves layers out",
        )
