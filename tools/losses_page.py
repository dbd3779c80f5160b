"""Write docs/losses.md's tables and pictures: the losses as the code has them, and what other implementations answer.

What stands between the markers of the page is replaced, the rest is kept. The pictures need Matplotlib.
"""

import argparse
import inspect
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a clone that is not installed

PAGE = ROOT / "docs" / "losses.md"
LEDGER = ROOT / "benchmarks" / "results" / "speed.jsonl"
IMAGES = ROOT / "docs" / "images" / "losses"

# Of each loss: the formula, as the page explains it, the range, and the number of the paper on arXiv.
BOX_LOSSES = {
    "iou": ("1 - IoU", "[0, 1]", "1608.01471"),
    "giou": ("1 - IoU + (C - U) / C", "[0, 2)", "1902.09630"),
    "diou": ("1 - IoU + D", "[0, 2)", "1911.08287"),
    "ciou": ("1 - IoU + D + alpha v", "[0, 2.5)", "1911.08287"),
    "eiou": ("1 - IoU + D + (dw / cw)^2 + (dh / ch)^2", "[0, 4)", "2101.08158"),
    "focal_eiou": ("IoU^gamma EIoU", "0 for boxes apart", "2101.08158"),
    "siou": ("1 - IoU + (Delta + Omega) / 2", "[0, 2.03)", "2205.12740"),
    "alpha_iou": ("1 - IoU^alpha + D^alpha + (alpha v)^alpha", "[0, 3)", "2110.13675"),
    "wiou": ("focus exp(D) (1 - IoU)", "version 1: [0, e)", "2301.10051"),
    "mpdiou": ("1 - IoU + (d1^2 + d2^2) / (W^2 + H^2)", "[0, 3]", "2307.07662"),
    "inner_iou": ("base + IoU - inner IoU", "of the base", "2311.02877"),
    "shape_iou": ("1 - IoU + D' + Omega' / 2", "scale 0: [0, 2.16)", "2312.17663"),
}
CLASSIFICATION_LOSSES = {
    "bce": ("BCE = -y log p - (1 - y) log(1 - p)", ""),
    "focal": ("a (1 - p_t)^gamma BCE", "1708.02002"),
    "quality_focal": ("abs(y - p)^beta BCE", "2006.04388"),
    "varifocal": ("y BCE; alpha p^gamma BCE where y = 0", "2008.13367"),
}


def main() -> int:
    """Fill the page, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PAGE, help="the page to write (default: docs/losses.md)")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder to draw into (default: docs/images/losses)")
    parser.add_argument("--draw", nargs="*", metavar="NAME", help="draw these only, or none (default: all)")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        if args.draw != []:
            draw(args.draw, args.images)
        args.output.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    except ValueError as error:
        print(f"losses_page: error: {error}", file=sys.stderr)
        return 2
    return 0


def draw(names: list[str] | None, folder: Path) -> None:
    """Draw some or all of the pictures."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ValueError('expected Matplotlib: pip install --editable ".[docs]", or --draw without names') from None
    from loss_guide import pictures

    unknown = sorted({*(names or ())} - {*pictures.NAMES})
    if unknown:
        raise ValueError(f"--draw: expected names of {', '.join(pictures.NAMES)}, received {', '.join(unknown)}")
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or pictures.NAMES:
        pictures.draw(name, folder)


def fill(page: str) -> str:
    """The page with the tables between its markers made anew."""
    for name, table in (("box", box_table), ("classification", classification_table), ("others", others_table)):
        begin, end = f"<!-- {name}: written by tools/losses_page.py -->", f"<!-- {name}: end -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"{PAGE}: expected the markers {begin} and {end} once each")
        before, rest = page.split(begin)
        page = f"{before}{begin}\n\n{table()}\n{end}{rest.split(end)[1]}"
    return page


def box_table() -> str:
    """Name, class with its arguments, formula, range, time and paper of each box loss."""
    times = measured_times()
    rows = [
        (f"`{kind}`", signature("box_loss", kind), f"`{formula}`", limits, times.get(kind, ""), arxiv(paper))
        for kind, (formula, limits, paper) in BOX_LOSSES.items()
    ]
    return as_table(("`kind`", "class and its arguments", "loss", "range", "time", "paper"), rows)


def classification_table() -> str:
    """Name, class with its arguments, formula and paper of each classification loss."""
    rows = [
        (f"`{kind}`", signature("classification_loss", kind), f"`{formula}`", arxiv(paper))
        for kind, (formula, paper) in CLASSIFICATION_LOSSES.items()
    ]
    return as_table(("`kind`", "class and its arguments", "loss", "paper"), rows)


def signature(family: str, kind: str) -> str:
    """A class and the arguments of its own."""
    from kyolo import registry

    cls = registry.find(family, kind)
    arguments = (
        f"{name}={item.default!r}" if item.default is not item.empty else name
        for name, item in inspect.signature(cls).parameters.items()
        if name in registry.arguments_of(cls)
    )
    return f"`{cls.__name__}({', '.join(arguments)})`"


def measured_times() -> dict[str, str]:
    """Time of value and gradient beside CIoU, of the last such line in the ledger."""
    lines = [json.loads(line) for line in LEDGER.read_text(encoding="utf-8").splitlines()]
    measured = [line["times_ciou"] for line in lines if line["benchmark"] == "loss_costs"]
    return {kind: f"{ratio:.1f}" for kind, ratio in measured[-1].items()} if measured else {}


def arxiv(paper: str) -> str:
    """A link to a paper, if there is one."""
    return f"[{paper}](https://arxiv.org/abs/{paper})" if paper else ""


def as_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(row)} |\n" for row in (head, *rows)]
    return "".join([lines[0], "|---" * len(head), "|\n", *lines[1:]])


def others_table() -> str:
    """Who, what differs, what comes of it, and whether it was run."""
    from loss_guide.others import findings

    return as_table(("where", "what differs", "what comes of it", "by"), findings())


if __name__ == "__main__":
    sys.exit(main())
