"""The report of a study: `report.json`, `report.md` and `report.html`, which needs no other file."""

import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kyolo.files import write_text

STYLE = """body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #ccc; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left }
figure { margin: 1rem 0 } svg { max-width: 100%; height: auto }"""
NOTES = (
    "AP is COCO AP (IoU 0.50 to 0.95) of the averaged weights of the last epoch. A pair is two runs with the same "
    "seed: the same initial weights where the layers have the same paths, the same order of images and augmentation.",
    "The t and BCa intervals (95 %) are about other seeds on the same validation images, the image interval about "
    "other images with the same seeds, the combined interval about both. Each holds for its comparison alone.",
    "p is the exact sign-flip test, Holm's correction of it counts all comparisons. better and worse: corrected p <= "
    "0.05. equal: the whole t interval is within the smallest effect. Everything else is undecided.",
)

Table = tuple[str, list[str], list[list[str]]]


def write_report(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write a study's results in three formats, and return the paths.

    Args:
        document: from `summarize`.
        folder: where to write them.
    """
    figures = _figures(document)
    texts = {
        "report.json": json.dumps(document, indent=2, allow_nan=False) + "\n",
        "report.md": to_markdown(document),
        "report.html": to_html(document, figures),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def to_markdown(document: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    parts = [f"# {document['question']}", document["answer"], *_facts(document)]
    for title, header, rows in tables(document):
        lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
        parts += [f"## {title}", "\n".join(map(_markdown_row, lines))]
    return "\n\n".join([*parts, "## How to read this", *NOTES]) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def to_html(document: Mapping[str, Any], figures: Sequence[tuple[str, str]] = ()) -> str:
    """Return the report as one HTML page.

    Args:
        document: from `summarize`.
        figures: title and SVG of each plot.
    """
    text = html.escape
    verdicts = [variant["comparison"]["verdict"] for variant in document["variants"] if variant["comparison"]]
    sentence = text(document["answer"])
    if "undecided" not in verdicts:  # which is never bold
        sentence = f"<strong>{sentence}</strong>"
    parts = [f"<h1>{text(document['question'])}</h1>", f"<p>{sentence}</p>"]
    parts += [f"<p>{text(fact)}</p>" for fact in _facts(document)]
    parts += [f"<h2>{text(title)}</h2><figure>{svg}</figure>" for title, svg in figures]
    for title, header, rows in tables(document):
        head = "".join(f"<th>{text(cell)}</th>" for cell in header)
        body = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>" for row in rows)
        parts.append(f"<h2>{text(title)}</h2><table><tr>{head}</tr>{body}</table>")
    parts += ["<h2>How to read this</h2>", *(f"<p>{text(note)}</p>" for note in NOTES)]
    title = text(document["question"])
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return f"<!doctype html><html lang=en>{head}<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</html>\n"


def _facts(document: Mapping[str, Any]) -> list[str]:
    environment = document["environment"]
    facts = [
        f"Plan {document['plan_sha256']}, commit {environment['commit']}, {environment['processor']}, "
        f"{environment['threads']} threads per training."
    ]
    pairs = min(variant["comparison"]["pairs"] for variant in document["variants"] if variant["comparison"])
    if pairs < document["least_pairs"]:
        facts.append(
            f"With {pairs} pairs and {document['comparisons']} comparisons nothing can be significant at 5 %: "
            f"{document['least_pairs']} pairs are the minimum."
        )
    idle = [variant["name"] for variant in document["variants"] if not any(variant["ap_by_seed"].values())]
    if idle:
        facts.append(f"AP is 0 in every run of {', '.join(idle)}: nothing was learned.")
    if document["excluded"]:
        facts.append(f"Excluded by request: {', '.join(document['excluded'])}.")
    return facts


def tables(document: Mapping[str, Any]) -> list[Table]:
    """Return title, header and rows of each table."""
    variants = document["variants"]
    compared = [(variant["name"], variant["comparison"]) for variant in variants if variant["comparison"]]
    labels = list(variants[0]["per_class"])
    latency = any(variant["latency_ms"] for variant in variants)
    return [
        (
            "Differences from " + document["baseline"],
            ["variant", "verdict", "pairs", "difference", "t interval", "p", "p (Holm)"],
            [
                [name, found["verdict"], str(found["pairs"]), _signed(found["mean"]), _interval(found["t_interval"]),
                 f"{found['p']:.4f}", f"{found['p_holm']:.4f}"]
                for name, found in compared
            ],
        ),
        (
            "Other intervals",
            ["variant", "BCa", "images", "seeds and images", "P(better)", "more pairs"],
            [
                [name, _interval(found["bca_interval"]), _interval(found["image_interval"]),
                 _interval(found["combined_interval"]),
                 f"{found['better']:.2f} ({found['better_interval'][0]:.2f} to {found['better_interval'][1]:.2f})",
                 _more_pairs(found)]
                for name, found in compared
            ],
        ),
        (
            "Accuracy, mean over seeds",
            ["variant", "AP", "spread", "AP50", "AP75", "small", "medium", "large", *labels],
            [
                [each["name"], *(_ap(each[key]) for key in ("ap", "spread", "ap50", "ap75", "ap_small", "ap_medium",
                 "ap_large")), *(_ap(each["per_class"][label]) for label in labels)]
                for each in variants
            ],
        ),
        (
            "Cost",
            ["variant", "parameters", "GFLOP", "training", *["float32", "int8"] * latency],
            [
                [each["name"], f"{each['parameters']:,}", f"{each['gflop']:.2f}", f"{each['train_seconds']:.0f} s",
                 *(f"{each['latency_ms'][form]:.2f} ms" for form in ("float32", "int8") if latency)]
                for each in variants
            ],
        ),
        (
            "AP by seed",
            ["variant", *map(str, document["seeds"])],
            [
                [each["name"], *(_ap(each["ap_by_seed"].get(str(seed))) for seed in document["seeds"])]
                for each in variants
            ],
        ),
    ]  # fmt: skip


def _more_pairs(found: Mapping[str, Any]) -> str:
    if found["verdict"] != "undecided":
        return "-"
    return "> 1,000" if found["pairs_needed"] is None else str(found["pairs_needed"])


def _ap(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}"


def _interval(interval: Sequence[float]) -> str:
    return f"{_signed(interval[0])} to {_signed(interval[1])}"


def _figures(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return title and SVG of the plots."""
    variants = document["variants"]
    figures = [("Difference in AP, 95 % t interval", _plot(lambda axes: _plot_differences(axes, document)))]
    figures.append(("Validation AP by epoch, mean over seeds", _plot(lambda axes: _plot_curves(axes, variants))))
    if all(variant["latency_ms"] for variant in variants):
        figures.append(("AP against latency", _plot(lambda axes: _plot_latency(axes, variants))))
    return figures


def _plot(draw) -> str:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "kyolo", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 4), layout="constrained")
        draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _plot_differences(axes, document: Mapping[str, Any]) -> None:
    compared = [(v["name"], v["comparison"]) for v in reversed(document["variants"]) if v["comparison"]]
    effect = document["smallest_effect"]
    axes.axvspan(-effect, effect, color="0.9")
    axes.axvline(0, color="0.5", linewidth=1)
    for row, (_, found) in enumerate(compared):
        low, high = found["t_interval"]
        axes.plot([low, high], [row, row], color="C0")
        axes.plot(list(found["differences"].values()), [row] * len(found["differences"]), "|", color="0.4")
        axes.plot(found["mean"], row, "o", color="C0")
    axes.set_yticks(range(len(compared)), [name for name, _ in compared])
    axes.set_ylim(-0.5, len(compared) - 0.5)
    axes.set_xlabel(f"AP minus AP of {document['baseline']} (grey: counts as equal)")


def _plot_curves(axes, variants: Sequence[Mapping[str, Any]]) -> None:
    for variant in variants:
        axes.plot([int(epoch) for epoch in variant["curve"]], list(variant["curve"].values()), label=variant["name"])
    axes.set_xlabel("epoch")
    axes.set_ylabel("AP")
    axes.legend()


def _plot_latency(axes, variants: Sequence[Mapping[str, Any]]) -> None:
    for form, marker in (("float32", "o"), ("int8", "s")):
        points = [(variant["latency_ms"][form], variant["ap"], variant["name"]) for variant in variants]
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], marker, label=form)
        for x, y, name in points:
            axes.annotate(name, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel("ms per image (.tflite)")
    axes.set_ylabel("AP")
    axes.legend()
