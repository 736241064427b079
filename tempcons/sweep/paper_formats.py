"""The paper's tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from tempcons.check import InputError
from tempcons.sweep.paper import Entry, Report, Sheet
from tempcons.sweep.table import line

COLUMNS = (
    "sheet",
    "row",
    "method",
    "metric",
    "flow",
    "value",
    "low",
    "high",
    "clips",
    "paper",
)
# In this order: a backslash made by one is left alone by the next.
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "E\\_warp": "$E_{warp}$",
    "E\\_long": "$E_{long}$",
    "↓": r"$\downarrow$",
    "✓": r"$\checkmark$",
    "[": "{[}",
}


def markdown(report: Report) -> str:
    """For reading, and for a README."""
    parts = [f"### {sheet.title}\n\n{markdown_sheet(sheet)}" for sheet in report.sheets]
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in report.notes)]) + "\n"


def markdown_sheet(sheet: Sheet) -> str:
    """One table; Markdown has a single row of titles, so groups stand in front of their columns'."""
    titles = [f"{group}: {title}" if group else title for group, titles in sheet.groups for title in titles]
    head = [*sheet.labels, *titles]
    rows = [line([*labels, *map(text, cells)]) for labels, cells in sheet.rows]
    return "\n".join([line(head), line(["---"] * len(head)), *rows])


def text(entry: Entry | None) -> str:
    """What a cell says."""
    return "" if entry is None else entry.text


def latex(report: Report) -> str:
    """Tables for a paper; needs the packages booktabs and amssymb."""
    parts = [latex_sheet(sheet) for sheet in report.sheets]
    return "\n".join([*(f"% {note}" for note in report.notes), *parts])


def latex_sheet(sheet: Sheet) -> str:
    """One table with the groups of columns above their columns."""
    columns = sum(len(titles) for _, titles in sheet.groups)
    empty = [""] * len(sheet.labels)
    above = [rf"\multicolumn{{{len(titles)}}}{{c}}{{{escape(group)}}}" for group, titles in sheet.groups]
    head = [escape(title) for _, titles in sheet.groups for title in titles]
    lines = [
        r"\begin{table}",
        rf"\caption{{{escape(sheet.title)}}}",
        rf"\begin{{tabular}}{{{'l' * len(sheet.labels)}{'r' * columns}}}",
        r"\toprule",
        *([latex_line([*empty, *above])] if any(group for group, _ in sheet.groups) else []),
        latex_line([*map(escape, sheet.labels), *head]),
        r"\midrule",
    ]
    for at, (labels, cells) in enumerate(sheet.rows):
        if at and at in sheet.breaks:
            lines.append(r"\midrule")
        lines.append(latex_line([escape(cell) for cell in (*labels, *map(text, cells))]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def latex_line(cells: Sequence[str]) -> str:
    """One row."""
    return " & ".join(cells) + r" \\"


def escape(words: str) -> str:
    """Words as LaTeX takes them."""
    for found, replacement in LATEX.items():
        words = words.replace(found, replacement)
    return words


def comma_separated(report: Report) -> str:
    """Every figure in a row of its own, with full precision; the notes stand in front as comments."""
    target = io.StringIO()
    for note in report.notes:
        target.write(f"# {note}\n")
    writer = csv.DictWriter(target, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for sheet in report.sheets:
        entries = (cell for _, cells in sheet.rows for cell in cells if cell is not None)
        writer.writerows(csv_row(sheet, entry) for entry in entries)
    return target.getvalue()


def csv_row(sheet: Sheet, entry: Entry) -> dict[str, object]:
    """A figure with what it belongs to."""
    ours = entry.ours
    return {
        "sheet": sheet.title,
        "row": entry.row,
        "method": entry.method,
        "metric": entry.metric.name,
        "flow": "second" if entry.metric.second else "main",
        "value": None if ours is None else ours.value,
        "low": None if ours is None else ours.low,
        "high": None if ours is None else ours.high,
        "clips": 0 if ours is None else ours.clips,
        "paper": entry.paper,
    }


FORMATS = {"md": markdown, "latex": latex, "csv": comma_separated}
SUFFIXES = {"md": "md", "latex": "tex", "csv": "csv"}


def write_report(report: Report, folder: Path) -> list[Path]:
    """``table1.md``, ``.tex`` and ``.csv``, or those of another table, in ``folder``.

    Raises:
        InputError: nothing can be written there.
    """
    stem = report.name if report.name.startswith("fig") else f"table{report.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [
            write_one(folder / f"{stem}.{SUFFIXES[name]}", make(report)) for name, make in FORMATS.items()
        ]
    except OSError as error:
        raise InputError(
            "sweep", f"can't write to {folder} ({error.strerror})", "give another --out"
        ) from error


def write_one(path: Path, words: str) -> Path:
    """Write under a temporary name, then rename."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(words, encoding="utf-8")
    return temporary.replace(path)
