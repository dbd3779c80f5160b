"""Pictures of the losses and their gradients, drawn by the classes of kyolo.losses, all on the same axes."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import tensorflow as tf
from matplotlib import pyplot
from matplotlib.patches import Rectangle
from PIL import Image

from kyolo import registry

COLOURS = ("#0072b2", "#d55e00", "#009e73")  # told apart by everyone: Okabe and Ito
GREY = "#c4c4c4"
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
}
WIDTH, HEIGHT, IMAGE = 120.0, 80.0, 640  # of the target and of MPDIoU's image, in pixels
# Of each loss: what the legend calls it, and the arguments. The first line is the default's, but for WIoU's mean.
VARIANTS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "iou": (("IoU", {}),),
    "giou": (("GIoU", {}),),
    "diou": (("DIoU", {}),),
    "ciou": (("CIoU", {}),),
    "eiou": (("EIoU", {}),),
    "focal_eiou": (("gamma 0.5", {}), ("gamma 2", {"gamma": 2.0})),
    "siou": (("theta 4", {}), ("theta 2", {"theta": 2.0})),
    "alpha_iou": (("alpha 3", {}), ("alpha 2", {"alpha": 2.0})),
    "wiou": tuple((f"version {number}", {"version": number, "initial_mean": 0.4}) for number in (3, 1, 2)),
    "mpdiou": (("MPDIoU", {"image_size": (IMAGE, IMAGE)}),),
    "inner_iou": (("ratio 0.75", {}), ("ratio 1.25", {"ratio": 1.25})),
    "shape_iou": (("scale 0", {}), ("scale 2", {"scale": 2.0})),
}


NAMES = (*VARIANTS, "focusing", "classification")


class Motion(NamedTuple):
    """What happens to the predicted box, which begins as the target."""

    title: str
    unit: str
    boxes: Callable[[Any], Any]
    positions: np.ndarray

    def is_scaling(self) -> bool:
        """Whether positions are octaves of a side rather than widths."""
        return bool(self.positions[0] < 0)


def around(x: Any, y: Any, wide: Any, high: Any) -> Any:
    """An xyxy box moved by so many widths of the target to the right and down, and so many times as wide and high."""
    x, y = WIDTH / 2 + WIDTH * x, HEIGHT / 2 + WIDTH * y
    return x - WIDTH / 2 * wide, y - HEIGHT / 2 * high, x + WIDTH / 2 * wide, y + HEIGHT / 2 * high


AWAY, OCTAVES = np.linspace(0, 3, 601)[1:], np.linspace(-2, 2, 600)  # not 0, where most losses have a kink
MOTIONS = (
    Motion("moved to the right", "by so many widths", lambda widths: around(widths, 0, 1, 1), AWAY),
    Motion("to the right and down", "by so many widths", lambda widths: around(widths, widths, 1, 1), AWAY),
    Motion("narrower, wider", "width, times", lambda octaves: around(0, 0, 2**octaves, 1), OCTAVES),
    Motion("smaller, larger", "both sides, times", lambda octaves: around(0, 0, 2**octaves, 2**octaves), OCTAVES),
    Motion("the same, far away", "both sides, times", lambda octaves: around(3, 0, 2**octaves, 2**octaves), OCTAVES),
)


def draw(name: str, folder: Path) -> None:
    """Draw one of NAMES into a folder, as a PNG of few colours, which is a third as large as Matplotlib's."""
    drawers = {"focusing": focusing, "classification": classification}
    drawn = io.BytesIO()
    matplotlib.use("agg")
    with matplotlib.rc_context(STYLE):
        figure = drawers[name]() if name in drawers else box_loss(name)
        figure.savefig(drawn, dpi=200)
        pyplot.close(figure)
    image = Image.open(drawn).convert("RGB").quantize(32, dither=Image.Dither.NONE)
    image.save(folder / f"{name}.png", optimize=True)


def box_loss(kind: str) -> Any:
    """The loss of each motion above its gradient by the motion, CIoU in grey behind."""
    size = {"figsize": (8.0, 3.5), "height_ratios": (0.5, 1, 1)}
    figure, rows = pyplot.subplots(3, len(MOTIONS), **size, layout="constrained")
    for (sketch, above, below), motion in zip(rows.T, MOTIONS, strict=True):
        draw_motion(sketch, motion)
        for label, settings, look in looks(kind):
            value, slope = value_and_slope(build("box_loss", *settings), motion)
            above.plot(motion.positions, value, **look, label=label)
            below.plot(motion.positions, slope, **look)
        ticks = (-2, -1, 0, 1, 2) if motion.is_scaling() else (0, 1, 2, 3)
        labels = ["1/4", "1/2", "1", "2", "4"] if motion.is_scaling() else list(map(str, ticks))
        for axes, first in ((above, rows[1, 0]), (below, rows[2, 0])):
            axes.set_xticks(ticks, labels if axes is below else [])
            axes.set_xlim(ticks[0], ticks[-1])
            axes.sharey(first)
            axes.tick_params(labelleft=axes is first)
            axes.grid(color="#eeeeee", linewidth=0.6)
            axes.set_axisbelow(True)
        below.set_xlabel(motion.unit)
        below.axhline(0, color="#888888", linewidth=0.6, zorder=1)
    rows[1, 0].set(ylabel="loss", ylim=(0, 2.2), yticks=(0, 0.5, 1, 1.5, 2))
    scale_by_root(rows[2, 0], (-2, -0.5, 0, 0.5, 2, 5), (-3, 6.5))
    rows[2, 0].set_ylabel("gradient")
    figure.legend(*rows[1, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def looks(kind: str) -> Iterator[tuple[str, tuple[str, dict[str, Any]], dict[str, Any]]]:
    """Label, loss and line style of each line of a picture."""
    if kind != "ciou":
        yield "CIoU", ("ciou", {}), {"color": GREY, "linewidth": 2.6}
    for (label, settings), colour, style in zip(VARIANTS[kind], COLOURS, ("-", "--", ":"), strict=False):
        yield label, (kind, settings), {"color": colour, "linestyle": style}


def build(family: str, name: str, settings: dict[str, Any]) -> Any:
    """A loss of kyolo by its name in a configuration, without reduction, in float64."""
    return registry.find(family, name)(**settings, reduction=None, dtype="float64")


def value_and_slope(loss: Any, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """The loss at each position and its derivative by the position, as automatic differentiation gives it."""
    position = tf.constant(motion.positions)
    with tf.GradientTape() as tape:
        tape.watch(position)
        value = loss([0.0, 0.0, WIDTH, HEIGHT], tf.stack([side + 0 * position for side in motion.boxes(position)], -1))
    return value.numpy(), tape.gradient(value, position).numpy()


def draw_motion(axes: Any, motion: Motion) -> None:
    """The target, filled, and the predicted box at a few positions, all sketches on one scale."""
    shown = [motion.boxes(at) for at in ((-0.75, -0.4, 0.4, 0.75) if motion.is_scaling() else (0.5, 1.1))]
    for left, top, right, bottom in shown:
        box = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=COLOURS[0])
        axes.add_patch(box)
    axes.add_patch(Rectangle((0, 0), WIDTH, HEIGHT, facecolor="#d5d5d5", edgecolor="none", zorder=0))
    lefts, tops, rights, bottoms = np.transpose([(0, 0, WIDTH, HEIGHT), *shown])
    x, y = (min(lefts) + max(rights)) / 2, (min(tops) + max(bottoms)) / 2
    axes.set(xlim=(x - 2.25 * WIDTH, x + 2.25 * WIDTH), ylim=(y + 0.92 * WIDTH, y - 0.92 * WIDTH), aspect="equal")
    axes.set_title(motion.title)
    axes.axis("off")


def scale_by_root(axes: Any, ticks: tuple[float, ...], limits: tuple[float, float]) -> None:
    """An axis on which both 0.1 and 5 are seen: the square root of the size, with the sign."""
    axes.set_yscale("function", functions=(lambda x: np.sign(x) * np.sqrt(np.abs(x)), lambda x: np.sign(x) * x**2))
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(*limits)


def focusing() -> Any:
    """What WIoU's versions multiply the loss of a box by, against how badly it fits beside the mean."""
    mean, outlierness = 0.1, np.linspace(0.01, 8, 800)
    side = 1 - mean * outlierness  # of a box in the unit square: the IoU
    boxes = [0.0, 0.0, 1.0, 1.0], np.stack([0 * side, 0 * side, side, 0 * side + 1], axis=-1)

    def factor(**settings: Any) -> np.ndarray:
        losses = (build("box_loss", "wiou", {**one, "initial_mean": mean}) for one in (settings, {"version": 1}))
        value, plain = (loss(*boxes).numpy() for loss in losses)
        return value / plain

    figure, axes = pyplot.subplots(figsize=(8.0, 2.4), layout="constrained")
    axes.axhline(1, color=GREY, linewidth=2.6, label="version 1")
    axes.plot(outlierness, factor(version=2), color=COLOURS[2], linestyle=":", label="version 2, gamma 0.5")
    axes.plot(outlierness, factor(), color=COLOURS[0], label="version 3, alpha 1.9, delta 3")
    label = "version 3, alpha 1.4, delta 5"
    axes.plot(outlierness, factor(alpha=1.4, delta=5.0), color=COLOURS[1], linestyle="--", label=label)
    axes.set(
        xlabel="outlierness: 1 - IoU of the box, by its mean so far",
        ylabel="factor of the loss",
        xlim=(0, 8),
        ylim=(0, 3),
    )
    axes.grid(color="#eeeeee", linewidth=0.6)
    figure.legend(loc="outside right upper")
    return figure


def classification() -> Any:
    """Each classification loss and its gradient by the logit, for three targets."""
    import tensorflow as tf

    logits = tf.constant(np.linspace(-8, 8, 641))
    kinds = (("bce", GREY, "-"), *zip(("focal", "quality_focal", "varifocal"), COLOURS, ("-", "--", ":"), strict=True))
    figure, rows = pyplot.subplots(2, 3, figsize=(8.0, 3.4), sharex=True, sharey="row", layout="constrained")
    for (above, below), target in zip(rows.T, (0.0, 0.5, 1.0), strict=True):
        for kind, colour, style in kinds:
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = build("classification_loss", kind, {})(tf.fill([len(logits), 1], target), logits[:, None])
            look = {"color": colour, "linestyle": style, "linewidth": 2.6 if colour == GREY else 1.4}
            above.plot(logits, value[:, 0], **look, label=kind)
            below.plot(logits, tape.gradient(value, logits), **look)
        above.set_title(f"target score {target:g}")
        below.set(xlabel="logit", xlim=(-8, 8), xticks=(-8, -4, 0, 4, 8))
        for axes in (above, below):
            axes.grid(color="#eeeeee", linewidth=0.6)
            axes.set_axisbelow(True)
        below.axhline(0, color="#888888", linewidth=0.6, zorder=1)
    rows[0, 0].set(ylabel="loss", ylim=(0, 4))
    scale_by_root(rows[1, 0], (-2, -1, -0.3, 0, 0.3, 1, 2), (-2.2, 2.2))
    rows[1, 0].set_ylabel("gradient")
    figure.legend(*rows[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure
