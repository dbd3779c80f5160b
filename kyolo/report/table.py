"""Short text tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

FIGURES = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
}


def format_table(rows: Sequence[Sequence[Any]], header: Sequence[str] = ()) -> str:
    """Align rows in columns: text to the left, numbers to the right, floats with three digits, None as "-".

    Args:
        rows: cells of each row; all rows of one length.
        header: names of the columns, underlined; none by default.

    Returns:
        Lines without a newline at the end.

    Example:
        >>> print(format_table([["cells", 0.5], ["platelets", None]], header=["class", "AP"]))
        class         AP
        ---------  -----
        cells      0.500
        platelets      -
    """
    lines = [list(header)] * bool(header) + [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if header:
        lines.insert(1, ["-" * width for width in widths])
    numeric = [all(_is_number(row[i]) for row in rows) for i in range(len(widths))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Format what `kyolo.evaluation.evaluate` returns: the figures, the AP of each class, and the protocol in a line.

    Args:
        metrics: ap, ap50, ap75, ap_small, ap_medium, ap_large, per_class, and protocol where there is one.

    Returns:
        Lines without a newline at the end; "-" where a figure is undefined.
    """
    rows = [[title, metrics[name]] for name, title in FIGURES.items()]
    rows += [[f"AP of {name}", value] for name, value in metrics["per_class"].items()]
    lines = [format_table(rows)]
    if "protocol" in metrics:
        lines.append(", ".join(f"{name} {value}" for name, value in metrics["protocol"].items()))
    return "\n".join(lines)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, int | float)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
