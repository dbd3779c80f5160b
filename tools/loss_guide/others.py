"""What other implementations of the losses answer: run where they can be imported here, else by their formula.

The lines here are our own; of a project that is not run they say what its public source computes.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from kyolo import boxes, losses
from kyolo.boxes.pair import compare, saturate, squared_ratio

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "tfa.npz"
GITHUB = "https://github.com"
# Corners of pairs that tell variants apart.
WIDE, HIGH = (0, 0, 40, 10), (0, 0, 10, 40)
INNER, OUTER = (4, 4, 8, 8), (0, 0, 10, 10)
FAR_WIDE, FAR_HIGH = (1000, 0, 1200, 10), (0, 0, 10, 200)

Loss = Callable[[Any, Any], Any]


class Finding(NamedTuple):
    """A line of the table."""

    where: str
    what: str
    outcome: str
    by: str


def findings() -> list[Finding]:
    """All of them."""
    run = [Finding(*row, by="run") for row in (keras_3(), *keras_cv(), addons())]
    written = (*mmdetection(), mmyolo(), *not_a_number(), absolute_epsilon(), *wiou_author(), *universal())
    name = (
        "MMDetection 3, `EIoULoss`",
        "is Extended-IoU (IEEE TIP 2021), not Efficient-IoU",
        "another loss",
        "docstring",
    )
    return [*run, *(Finding(*row, by="formula") for row in written), Finding(*name)]


def pairs() -> tuple[np.ndarray, np.ndarray]:
    """1,000 targets of 8 to 320 pixels a side, and boxes shifted by 0.4 of a side and scaled by e^0.5, both normal."""
    rng = np.random.default_rng(0)
    side, centre = np.exp(rng.uniform(np.log(8), np.log(320), (1000, 2))), rng.uniform(0, 640, (1000, 2))
    moved, scaled = centre + side * rng.normal(0, 0.4, side.shape), side * np.exp(rng.normal(0, 0.5, side.shape))
    target, predicted = ((at - of / 2, at + of / 2) for at, of in ((centre, side), (moved, scaled)))
    return np.concatenate(target, axis=-1), np.concatenate(predicted, axis=-1)


def differentiate(loss: Loss, target: Any, predicted: Any) -> tuple[np.ndarray, np.ndarray]:
    """A loss and its gradient by the predicted boxes, in float64 unless the loss casts."""
    target, predicted = (tf.constant(corners, "float64") for corners in (target, predicted))
    with tf.GradientTape() as tape:
        tape.watch(predicted)
        value = loss(target, predicted)
    return np.asarray(value), tape.gradient(value, predicted).numpy()


def deviation(loss: Loss) -> tuple[np.ndarray, np.ndarray]:
    """How far another CIoU loss is off on the pairs: values, and gradients as parts of the right one's length."""
    value, gradient = differentiate(loss, *pairs())
    right, right_gradient = differentiate(losses.CIoULoss(reduction=None, dtype="float64"), *pairs())
    return value - right, np.linalg.norm(gradient - right_gradient, axis=-1) / np.linalg.norm(right_gradient, axis=-1)


def one(similarity: Callable[..., Any], *corners: Any) -> float:
    """The loss of one pair."""
    return 1 - float(similarity(*(np.array(box, "float64") for box in corners)))


def keras_3() -> tuple[str, str, str]:
    """`compute_ciou` of Keras."""

    def loss(target: Any, predicted: Any) -> Any:
        return 1 - keras.utils.bounding_boxes.compute_ciou(target, predicted, "xyxy")

    _, gradient = deviation(loss)
    small, larger = (float(loss(*[np.array([[0, 0, side, side]], "float32")] * 2)[0]) for side in (1e-4, 1e-2))
    return (
        "Keras 3, `keras.utils.bounding_boxes.compute_ciou`",
        "a gradient flows through alpha; epsilons are absolute",
        f"gradient up to {gradient.max():.0%} off, more than 10% for {np.sum(gradient > 0.1)} of 1,000 pairs; "
        f"equal boxes of side 1e-4 cost {small:.2f}, of side 0.01 {larger:.3f}",
    )


def keras_cv() -> Iterator[tuple[str, str, str]]:
    """The box losses of KerasCV."""
    import keras_cv

    loss = keras_cv.losses.CIoULoss("xyxy", reduction="none")
    value, gradient = deviation(loss)
    example = float(loss(np.array([HIGH], "float32"), np.array([WIDE], "float32"))[0])
    yield (
        "KerasCV 0.9, `CIoULoss`",
        "4 / pi^2 is squared with the angle; alpha and epsilons as in Keras",
        f"40 x 10 against 10 x 40 costs {example:.4f}, not {one(boxes.ciou, WIDE, HIGH):.4f}; "
        f"up to {-value.min():.3f} too low on the pairs, gradient up to {gradient.max():.0%} off",
    )
    batch = pairs()[0].reshape(10, 100, 4).astype("float32")
    costs = [
        float(loss(batch, batch))
        for loss in (keras_cv.losses.GIoULoss("xyxy"), keras_cv.losses.IoULoss("xyxy", mode="linear"))
    ]
    yield (
        "KerasCV 0.9, `GIoULoss`, `IoULoss`",
        "in a batch of images, only truth i of image i is compared, and with all predictions of that image",
        f"10 images of 100 boxes, all predicted exactly, cost {costs[0]:.2f} and {costs[1]:.2f}, not 0",
    )


def addons() -> tuple[str, str, str]:
    """GIoU of tensorflow-addons, as its own environment answered."""
    with np.load(GOLDEN, allow_pickle=False) as file:
        ours = losses.GIoULoss(reduction=None, dtype="float64")(file["giou/target"], file["giou/prediction"])
        equal = np.abs(ours - file["giou/loss"]) < 1e-13
    outcome = f"{equal.sum()} of {len(equal)} values equal to 1e-13"
    return "tensorflow-addons 0.23, `giou_loss`", "gradients at [kinks](tensorflow-addons.md)", outcome


def mmdetection() -> Iterator[tuple[str, str, str]]:
    """SIoU and CIoU of MMDetection."""
    box, shifts = np.array([0.0, 0.0, 10.0, 10.0]), (10, 20, 50)
    moved = [box + np.array([shift, 0, shift, 0]) for shift in shifts]
    rewarded = [1 - np.clip(siou_rewarding_distance(other, box), -1, 1) for other in moved]
    yield (
        f"MMDetection 3, `SIoULoss` ([#10290]({GITHUB}/open-mmlab/mmdetection/pull/10290))",
        "by default (`neg_gamma=False`) `exp(+gamma rho)`: distance is rewarded; clamped to 0..2",
        f"10 x 10 moved right by 10, 20, 50 costs {listed(rewarded)}, "
        f"not {listed([one(boxes.siou, other, box) for other in moved])}",
    )
    without = np.mean(boxes.iou(*pairs()) <= 0.5)
    yield (
        "MMDetection 3, `CIoULoss`",
        "alpha is 0 unless the IoU is above 0.5, as in the paper's journal version",
        f"40 x 10 against 10 x 40 costs {one(boxes.diou, WIDE, HIGH):.4f}, not {one(boxes.ciou, WIDE, HIGH):.4f}; "
        f"{without:.0%} of the pairs have no aspect term",
    )


def siou_rewarding_distance(boxes1: Any, boxes2: Any) -> float:
    """SIoU's similarity with `2 - exp(+gamma rho_x) - exp(+gamma rho_y)` as the distance cost."""
    pair = compare(boxes1, boxes2)
    x, y = float(pair.offset_x), float(pair.offset_y)
    gamma = 2 - 2 * abs(x * y) / (x**2 + y**2)
    rho = [float(squared_ratio(*sides)) for sides in ((x, pair.enclosing_width), (y, pair.enclosing_height))]
    shape = sum(float(saturate(difference)) ** 4 for difference in (pair.width_difference(), pair.height_difference()))
    return float(pair.overlap) - (sum(1 - np.exp(gamma * ratio) for ratio in rho) + shape) / 2


def mmyolo() -> tuple[str, str, str]:
    """The clamp of MMYOLO."""

    def clamped(target: Any, predicted: Any) -> Any:
        return 1 - tf.clip_by_value(boxes.ciou(predicted, target), -1, 1)

    value, gradient = differentiate(clamped, FAR_HIGH, FAR_WIDE)
    _, right = differentiate(lambda target, predicted: 1 - boxes.ciou(predicted, target), FAR_HIGH, FAR_WIDE)
    return (
        "MMYOLO, `bbox_overlaps`",
        "similarities are clamped to -1..1",
        f"a pair of CIoU loss {one(boxes.ciou, FAR_WIDE, FAR_HIGH):.2f} costs {value:.2f}, "
        f"with a gradient of length {np.linalg.norm(gradient):.0f}, not {np.linalg.norm(right):.4f}",
    )


def not_a_number() -> Iterator[tuple[str, str, str]]:
    """Quotients 0 / 0."""
    left, top, right, bottom = np.array([30.0, 40.0, 30.0, 40.0])
    dx, dy = np.zeros(2)  # between the centres of (10, 10, 50, 50) and (20, 20, 40, 40)
    with np.errstate(invalid="ignore"):
        angle, sine = np.arctan((right - left) / (bottom - top)), np.abs(dy) / np.hypot(dx, dy)
    where = "detectron2 `ciou_loss`, torchvision `complete_box_iou_loss`"
    yield where, "`atan(w / h)` without an epsilon", f"a predicted box without width and height costs {angle}"
    links = f"YOLOv6 before [#582]({GITHUB}/meituan/YOLOv6/pull/582), PaddleDetection: SIoU"
    yield links, "`abs(dy) / sigma` without an epsilon", f"boxes about one centre cost {sine}"


def absolute_epsilon() -> tuple[str, str, str]:
    """An epsilon of 1e-7 in the union."""
    small, larger = (1 - side**2 / (side**2 + 1e-7) for side in (1e-4, 1e-2))
    return (
        "Ultralytics, torchvision, detectron2, MMDetection",
        "1e-7 is added to the union",
        f"equal boxes of side 1e-4 cost {small:.2f}, of side 0.01 {larger:.3f}; in pixels nothing is seen",
    )


def wiou_author() -> Iterator[tuple[str, str, str]]:
    """EIoU and CIoU of the repository of WIoU's author."""

    def offsets_for_sides(target: Any, predicted: Any) -> Any:
        pair = compare(predicted, target)
        ratios = (pair.offset_x, pair.enclosing_width), (pair.offset_y, pair.enclosing_height)
        return 1 - pair.overlap + pair.distance() + sum(squared_ratio(*ratio) for ratio in ratios)

    costs = [float(offsets_for_sides(*np.array(pair, "float64"))) for pair in ((WIDE, HIGH), (INNER, OUTER))]
    right = [one(boxes.eiou, *pair) for pair in ((WIDE, HIGH), (INNER, OUTER))]
    where = f"[Instinct323/wiou]({GITHUB}/Instinct323/wiou), WIoU's author"
    yield (
        f"{where}: EIoU",
        "offsets of the centres stand in the place of the differences of the sides",
        f"40 x 10 against 10 x 40 costs {costs[0]:.2f}, not {right[0]:.2f}; "
        f"4 x 4 within 10 x 10 {costs[1]:.2f}, not {right[1]:.2f}",
    )
    with np.errstate(invalid="ignore"):
        equal = compare(np.array([10.0, 20.0, 50.0, 40.0]), np.array([10.0, 20.0, 50.0, 40.0]))
        v = np.square(np.arctan(equal.width1 / equal.height1) - np.arctan(equal.width2 / equal.height2))
        alpha = v / ((1 - np.array(equal.overlap)) + v)
    yield "the same: CIoU", "`alpha = v / ((1 - IoU) + v)` without an epsilon", f"equal boxes cost {alpha}"


def universal() -> Iterator[tuple[str, str, str]]:
    """The `bbox_iou` that many forks of YOLOv5 and YOLOv8 share."""
    pair = compare(*pairs())
    together = np.asarray(pair.overlap) > 0
    x, y, overlap = (np.asarray(value)[together] for value in (pair.offset_x, pair.offset_y, pair.overlap))
    weight = overlap ** (2 * np.abs(x * y) / (x**2 + y**2) - 2)
    where = "`bbox_iou(..., SIoU=True, Focal=True)` in many forks of YOLOv5 and YOLOv8"
    yield (
        where,
        "`gamma = Lambda - 2` of SIoU takes the place of the focal exponent",
        f"weights of {weight.min():.1f} to {weight.max():,.0f} on the pairs that overlap, "
        f"not {overlap.min() ** 0.5:.2f} to {overlap.max() ** 0.5:.2f}",
    )

    def flowing(target: Any, predicted: Any) -> Any:
        return boxes.iou(predicted, target) ** 0.5 * (1 - boxes.eiou(predicted, target))

    _, gradient = differentiate(flowing, *pairs())
    broken = np.sum(~np.isfinite(gradient).all(axis=-1))
    yield (
        "the same, `Focal=True`",
        "a gradient flows through the weight `IoU^0.5`",
        f"no finite gradient for {broken} of 1,000 pairs: all {np.sum(~together)} that do not overlap",
    )


def listed(numbers: list[float]) -> str:
    """Numbers with two decimals."""
    return ", ".join(f"{number:.2f}" for number in numbers)
