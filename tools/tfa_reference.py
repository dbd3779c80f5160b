"""Write tests/golden/tfa.npz: what tensorflow-addons answers where kyolo or Keras 3 has the same function.

It cannot be imported beside Keras 3: this script runs in the environment of requirements/tfa-reference.txt, under
Python 3.9 to 3.11, and imports nothing of kyolo. All that goes in is exact in float32, so that one file serves both
precisions; boxes are xyxy.
"""

import argparse
import importlib
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "tests" / "golden" / "tfa.npz"
PACKAGES = ("tensorflow", "tensorflow-addons", "keras", "numpy")

FOCAL_SETTINGS = ((0.25, 2.0), (0.75, 1.5), (0.5, 0.5), (0.25, 0.0), (None, 2.0))  # alpha, gamma
AVERAGE_STEPS, AVERAGE_DECAY = 12, 0.4  # (1 + n) / (10 + n) reaches it on the way
# Powers of two and their like: tensorflow-addons keeps hyperparameters in float32, whatever the weights are.
OPTIMIZER_STEPS, WEIGHT_DECAY, CLIP_NORM = 8, 2.0**-6, 1.5
ADAM = {"learning_rate": 2.0**-4, "beta_1": 0.875, "beta_2": 0.96875, "epsilon": 2.0**-20}


def main() -> int:
    """Ask tensorflow-addons and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="file to write or replace (default: %(default)s)")
    output = parser.parse_args().output
    if output.is_dir() or not output.parent.is_dir():
        return refuse(f"{output}: expected a file in a folder that exists; name another --output")
    os.environ.update(CUDA_VISIBLE_DEVICES="-1", TF_CPP_MIN_LOG_LEVEL="3")  # a processor's numbers, without log
    try:
        importlib.import_module("tensorflow_addons")
    except ImportError as error:
        return refuse(
            f"expected an environment with tensorflow-addons, received {sys.executable} ({error}); "
            "make one as requirements/tfa-reference.txt says"
        )
    versions = [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]
    arrays = {"versions": np.array(versions), **giou(), **focal(), **average(), **optimizers()}
    write(output, arrays)
    print(f"{output}: {len(arrays)} arrays, {output.stat().st_size} bytes, from {', '.join(versions)}")
    return 0


def refuse(message: str) -> int:
    """Say on one line what is wrong; the exit code of bad input."""
    print(f"tfa_reference: error: {message}", file=sys.stderr)
    return 2


def write(path: Path, arrays: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def exact(values: Any) -> np.ndarray:
    """Values rounded to float32, as float64."""
    return np.asarray(values, "float32").astype("float64")


def box_pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The case of each pair, its target and its prediction."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 100, (40, 2, 2, 2)), axis=2).reshape(40, 2, 4)  # x1 y1 x2 y2, twice a row
    pairs = [("random", target, prediction) for target, prediction in corners]
    pairs += [("tiny", target / 2**20, prediction / 2**20) for target, prediction in corners[:8]]
    big, small = (10, 20, 90, 70), (30, 25, 50, 60)
    pairs += [("nested", big, small), ("nested", small, big)]
    pairs += [("disjoint", big, other) for other in ((95, 30, 99, 50), (20, 75, 60, 99), (91, 1, 97, 13))]
    pairs += [("identical", big, big), ("identical", small, small)]
    pairs += [("touching", big, other) for other in ((90, 20, 120, 70), (30, 70, 50, 80), (90, 70, 95, 75))]
    line, point = (40, 30, 40, 60), (40, 30, 40, 30)
    pairs += [("flat", big, line), ("flat", line, big), ("flat", big, point), ("flat", point, big)]
    pairs += [("flat", point, point), ("flat", line, line), ("flat", point, (1, 2, 1, 2))]
    cases, targets, predictions = zip(*pairs)  # noqa: B905 (Python 3.9)
    return np.array(cases), exact(targets), exact(predictions)


def giou() -> dict[str, np.ndarray]:
    """The GIoU loss of each pair of boxes and its gradient with respect to the predicted box."""
    import tensorflow as tf
    import tensorflow_addons as tfa

    cases, targets, predictions = box_pairs()
    yxyx = [1, 0, 3, 2]  # the order of tensorflow-addons, and back
    received = tf.constant(predictions[:, yxyx])
    with tf.GradientTape() as tape:
        tape.watch(received)
        loss = tfa.losses.giou_loss(tf.constant(targets[:, yxyx]), received)
    gradient = tape.gradient(loss, received).numpy()[:, yxyx]
    return {
        "giou/case": cases,
        "giou/target": targets,
        "giou/prediction": predictions,
        "giou/loss": loss.numpy(),
        "giou/gradient": gradient,
    }


def focal() -> dict[str, np.ndarray]:
    """The focal loss of each logit and its gradient, a row for each pair of settings; alpha None is NaN."""
    import tensorflow as tf
    import tensorflow_addons as tfa

    rng = np.random.default_rng(1)
    targets = exact(np.concatenate([np.zeros(16), np.ones(16), rng.uniform(size=16), [0, 1, 0.5, 0, 1, 0.5]]))
    logits = exact(np.concatenate([rng.normal(0, 4, 48), [30, 30, 30, -30, -30, -30]]))
    alphas, gammas = zip(*FOCAL_SETTINGS)  # noqa: B905 (Python 3.9)
    arrays = {
        "focal/target": targets,
        "focal/logit": logits,
        "focal/alpha": np.array(alphas, "float64"),
        "focal/gamma": np.array(gammas),
    }
    for dtype in ("float64", "float32"):
        rows = []
        for alpha, gamma in FOCAL_SETTINGS:
            received = tf.constant(logits[:, None], dtype)  # it sums over the last axis: one element there
            with tf.GradientTape() as tape:
                tape.watch(received)
                loss = tfa.losses.sigmoid_focal_crossentropy(targets[:, None], received, alpha, gamma, from_logits=True)
            rows.append((loss.numpy(), tape.gradient(loss, received).numpy()[:, 0]))
        arrays[f"focal/loss_{dtype}"] = np.stack([loss for loss, _ in rows])
        arrays[f"focal/gradient_{dtype}"] = np.stack([gradient for _, gradient in rows])
    return arrays


def average() -> dict[str, np.ndarray]:
    """Weights before and after each step of SGD, and the average after each."""
    import tensorflow as tf
    import tensorflow_addons as tfa

    rng = np.random.default_rng(2)
    weight = tf.Variable(rng.normal(size=7).astype("float32"))
    optimizer = tfa.optimizers.MovingAverage(
        tf.keras.optimizers.legacy.SGD(0.5), average_decay=AVERAGE_DECAY, dynamic_decay=True
    )
    weights, averages = [weight.numpy()], []
    for gradient in rng.normal(size=(AVERAGE_STEPS, 7)).astype("float32"):
        optimizer.apply_gradients([(tf.constant(gradient), weight)])
        weights.append(weight.numpy())
        averages.append(optimizer.get_slot(weight, "average").numpy())
    return {
        "average/decay": np.array(AVERAGE_DECAY),
        "average/weights": np.stack(weights),
        "average/averages": np.stack(averages),
    }


def optimizers() -> dict[str, np.ndarray]:
    """The weights after each step of LAMB and AdamW from the same start with the same gradients."""
    import tensorflow_addons as tfa

    rng = np.random.default_rng(3)
    start = {"kernel": exact(rng.normal(size=(4, 3))), "bias": np.zeros(3)}
    gradients = {name: exact(rng.normal(size=(OPTIMIZER_STEPS, *value.shape))) for name, value in start.items()}
    lamb, adamw = tfa.optimizers.LAMB, tfa.optimizers.AdamW
    runs = {
        "lamb": lamb(**ADAM),
        "lamb_clipped": lamb(**ADAM, global_clipnorm=CLIP_NORM),
        "lamb_decayed": lamb(**ADAM, weight_decay=WEIGHT_DECAY),
        "adamw": adamw(**ADAM, weight_decay=WEIGHT_DECAY),
    }
    settings = {**ADAM, "weight_decay": WEIGHT_DECAY, "clip_norm": CLIP_NORM}
    arrays = {f"optimizer/{name}": np.array(value) for name, value in settings.items()}
    for name in start:
        arrays[f"optimizer/start/{name}"], arrays[f"optimizer/gradients/{name}"] = start[name], gradients[name]
    for run, optimizer in runs.items():
        for name, weights in steps(optimizer, start, gradients).items():
            arrays[f"optimizer/{run}/{name}"] = weights
    return arrays


def steps(optimizer: Any, start: dict[str, np.ndarray], gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights after each step of an optimizer."""
    import tensorflow as tf

    variables = {name: tf.Variable(value, name=name) for name, value in start.items()}
    weights: dict[str, list[np.ndarray]] = {name: [] for name in start}
    for step in range(OPTIMIZER_STEPS):
        optimizer.apply_gradients([(tf.constant(gradients[name][step]), variables[name]) for name in start])
        for name, variable in variables.items():
            weights[name].append(variable.numpy())
    return {name: np.stack(values) for name, values in weights.items()}


if __name__ == "__main__":
    sys.exit(main())
