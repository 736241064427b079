"""A sweep as one of the paper's tables: its rows and columns, its own figures beside ours, and more.

E_warp never stands alone: freezing, averaging and blurring all win it. Beside it stand the same by a second
flow estimator, the long-range error, distance, sharpness and motion; below, all methods with both controls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tempcons.check import InputError
from tempcons.metrics.bootstrap import Interval
from tempcons.sweep import published
from tempcons.sweep.folder import Job
from tempcons.sweep.published import AVERAGE, DIRECT, OURS, TRANSFORMER, EditTable
from tempcons.sweep.runs import CONTROL_NAMES, Metric, Run, estimate, provenance, read_runs

TABLES = ("1", "2", "3", "fig6")
E_WARP, DISTANCE = Metric("e_warp"), Metric("distance")
METRICS = (
    E_WARP,
    DISTANCE,
    Metric("e_warp", second=True),
    Metric("e_long"),
    Metric("sharpness"),
    Metric("motion"),
)
DOMAINS = {"in": "In-domain editing", "out": "Out-of-domain editing"}
# Phases of a run -> the paper's two columns, "Update W" and "Update G".
PHASES = {"direct": ("-", "-"), "latent": ("✓", "-"), "generator": ("-", "✓"), "both": ("✓", "✓")}
# What a phase leaves, as methods of the table of all methods.
LATENT, GENERATOR, BOTH = "phase1", "generator", "both"
LABELS = {
    DIRECT: "Direct editing",
    AVERAGE: "Average performance",
    OURS: "Ours",
    "dvp": "DVP",
    TRANSFORMER: "LT",
    "wplus": "codes one by one",
    "released_code": "released code's settings",
    "smoothed_codes": "control: codes smoothed over time",
    "flow_warped_mean": "control: flow-warped mean of 3 frames",
    LATENT: "Ours, phase 1 alone",
    GENERATOR: "Ours, phase 2 alone",
    BOTH: "Ours",
    "nada_sketch": "Sketch",
    "nada_pixar": "Pixar",
    "nada_disney_princess": "Disney Princess",
    "nada_elf": "Elf",
    "nada_zombie": "Zombie",
    "depp": "Depp",
}


@dataclass(frozen=True)
class Entry:
    """One cell: ours, what of it is shown, and the paper's figure."""

    row: str
    method: str
    metric: Metric
    ours: Interval | None
    text: str
    paper: float | None = None


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        title: above it.
        labels: titles of the columns that name a row.
        groups: groups of columns, each with its title and theirs.
        rows: labels and cells of each row; None leaves a cell empty.
        breaks: rows that a line stands above.
    """

    title: str
    labels: Sequence[str]
    groups: Sequence[tuple[str, Sequence[str]]]
    rows: Sequence[tuple[Sequence[str], Sequence[Entry | None]]]
    breaks: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Report:
    """What is printed for a table: sheets, and notes on how to read them and how they came about."""

    name: str
    sheets: Sequence[Sheet]
    notes: Sequence[str]


def make_report(folder: Path, jobs: Sequence[Job], table: str) -> Report:
    """One of the paper's tables from a sweep's finished jobs.

    Raises:
        InputError: the sweep holds nothing that belongs into the table, or a broken run.
    """
    domain = {"1": "out", "2": "in"}.get(table)
    runs = [run for run in read_runs(folder, jobs) if domain in (None, run.domain)]
    if not runs:
        what = f"{folder} holds no {DOMAINS[domain or 'in'].lower()}"
        raise InputError("sweep", what, f"python train.py -m experiment=table{table} runs some")
    title, sheets = "All methods", []
    if table == "fig6":
        title = published.FIGURE_6_TITLE
    elif table == "3":
        sheets = [phase_sheet(runs)]
    else:
        sheets = [edit_sheet(published.TABLE_1 if table == "1" else published.TABLE_2, runs)]
    return Report(table, [*sheets, methods_sheet(title, runs)], notes(folder, runs, table))


def notes(folder: Path, runs: Sequence[Run], table: str) -> list[str]:
    """How to read the table, and where it comes from."""
    told = [
        "errors and distance: lower is better; sharpness and motion: shares of the direct edit's, 1 is kept"
    ]
    if len({run.clip for run in runs}) > 1:
        told.append("[low, high]: 95 % bootstrap interval over clips")
    if table == "fig6":
        told += [f"x-t slices of {run.edit}: {run.folder / 'slices.png'}" for run in runs]
    else:
        told.append(f"(in brackets): {published.CONDITIONS}")
    return [*told, *provenance(folder, runs)]


def edit_sheet(table: EditTable, runs: Sequence[Run]) -> Sheet:
    """Tables 1 and 2: the paper's edits, then others that were run, then the average over those that were."""
    columns = [(metric, columns_of(table, metric, runs)) for metric in METRICS]
    groups = [(metric_title(metric, runs), [label(m) for m in methods]) for metric, methods in columns]
    edits = dict.fromkeys([*list(table.rows)[1:-1], *(run.edit for run in runs)])
    rows = []
    for row in (DIRECT, *edits, AVERAGE):
        chosen = [run for run in runs if row in (DIRECT, AVERAGE, run.edit)]
        cells: list[Entry | None] = []
        for metric, methods in columns:
            if row == DIRECT:
                cells += [published_cell(table, row, DIRECT, metric, chosen), *[None] * (len(methods) - 1)]
            else:
                cells += [published_cell(table, row, method, metric, chosen) for method in methods]
        rows.append(([label(row)], cells))
    return Sheet(table.title, ["Editing categories"], groups, rows, frozenset({1, len(rows) - 1}))


def columns_of(table: EditTable, metric: Metric, runs: Sequence[Run]) -> list[str]:
    """Methods beside each other: the paper's for its own columns; LT elsewhere only where it was run."""
    has_transformer = metric == E_WARP or any(TRANSFORMER in run.figures for run in runs)
    return [method for method in table.methods if method != TRANSFORMER or has_transformer]


def published_cell(table: EditTable, row: str, method: str, metric: Metric, runs: Sequence[Run]) -> Entry:
    """Ours and the paper's figure for an edit and a method."""
    paper = None if metric.second else table.rows.get(row, {}).get((metric.name, method))
    return cell(row, method, metric, runs, lambda run: run.last if method == OURS else method, paper)


def phase_sheet(runs: Sequence[Run]) -> Sheet:
    """Table 3: neither phase, each alone, both, for both domains."""
    titles = [metric_title(metric, runs) for metric in METRICS]
    rows = []
    for phase, marks in PHASES.items():
        cells = [phase_cell(phase, domain, metric, runs) for domain in DOMAINS for metric in METRICS]
        rows.append((marks, cells))
    groups = [(title, titles) for title in DOMAINS.values()]
    return Sheet(published.TABLE_3_TITLE, ["Update W", "Update G"], groups, rows)


def phase_cell(phase: str, domain: str, metric: Metric, runs: Sequence[Run]) -> Entry:
    """Ours and the paper's figure for some phases in a domain."""
    method = {"latent": LATENT}.get(phase, phase)
    paper = None if metric.second else published.TABLE_3[phase].get((domain, metric.name))
    chosen = [run for run in runs if run.domain == domain]
    return cell(f"{phase} {domain}", method, metric, chosen, lambda run: variant_in(run, method), paper)


def methods_sheet(title: str, runs: Sequence[Run]) -> Sheet:
    """Every method that was run, edit by edit, and over all edits; errors with their change."""
    groups = [("", [metric_title(metric, runs) for metric in METRICS])]
    edits = list(dict.fromkeys(run.edit for run in runs))
    rows: list[tuple[Sequence[str], Sequence[Entry | None]]] = []
    breaks = set()
    for edit in [*edits, *([AVERAGE] if len(edits) > 1 else [])]:
        breaks.add(len(rows))
        chosen = [run for run in runs if edit in (AVERAGE, run.edit)]
        for method in methods_of(chosen):
            cells = [changed(cell_of(edit, method, metric, chosen), chosen) for metric in METRICS]
            rows.append(([label(edit), label(method)], cells))
    return Sheet(title, ["edit", "method"], groups, rows, frozenset(breaks))


def methods_of(runs: Sequence[Run]) -> list[str]:
    """The direct edit, the controls, other methods, and what the phases gave."""
    found = dict.fromkeys(name for run in runs for name in run.figures)
    others = [name for name in found if name not in (DIRECT, "phase1", "phase2", *CONTROL_NAMES)]
    controls = [name for name in CONTROL_NAMES if name in found]
    own = [m for m in (LATENT, GENERATOR, BOTH) if any(variant_in(run, m) in run.figures for run in runs)]
    return [DIRECT, *controls, *others, *own]


def variant_in(run: Run, method: str) -> str:
    """A run's variant that belongs to a method; "" where the run has none."""
    if method not in (GENERATOR, BOTH):
        return method
    return "phase2" if (run.phase == "generator") == (method == GENERATOR) else ""


def cell_of(row: str, method: str, metric: Metric, runs: Sequence[Run]) -> Entry:
    """Ours for a method of the table of all methods."""
    return cell(row, method, metric, runs, lambda run: variant_in(run, method), None)


def changed(entry: Entry, runs: Sequence[Run]) -> Entry:
    """The cell with an error's change against the direct edit of the same runs."""
    if entry.ours is None or not entry.metric.is_error or entry.method == DIRECT:
        return entry
    same = [run for run in runs if run.value(variant_in(run, entry.method), entry.metric) is not None]
    direct = estimate(same, [run.value(DIRECT, entry.metric) for run in same])
    if direct is None or not direct.value:
        return entry
    text = f"{entry.text} ({100 * (entry.ours.value / direct.value - 1):+.0f} %)"
    return Entry(entry.row, entry.method, entry.metric, entry.ours, text, entry.paper)


def cell(
    row: str,
    method: str,
    metric: Metric,
    runs: Sequence[Run],
    variant: Callable[[Run], str],
    paper: float | None,
) -> Entry:
    """Mean of a variant's figure over runs, and the paper's."""
    ours = estimate(runs, [run.value(variant(run), metric) for run in runs])
    text = shown(metric, ours)
    return Entry(row, method, metric, ours, text if paper is None else f"{text} ({paper:.4f})", paper)


def shown(metric: Metric, ours: Interval | None) -> str:
    """A figure with its interval over clips, a dash where there is none."""
    if ours is None:
        return "-"
    text = number(metric, ours.value)
    if ours.low is None or ours.high is None:
        return text
    return f"{text} [{number(metric, ours.low)}, {number(metric, ours.high)}]"


def number(metric: Metric, value: float) -> str:
    """A figure of ours; errors with one digit more than the paper's."""
    return f"{value:.5f}" if metric.is_error else f"{value:.4f}" if metric == DISTANCE else f"{value:.3f}"


def metric_title(metric: Metric, runs: Sequence[Run]) -> str:
    """A column's title, with the network where it isn't the main flow; LPIPS only where it is LPIPS."""
    used = runs[0].manifest["networks"]
    if metric.second:
        return f"E_warp by {used['second_flow']} ↓"
    if metric == DISTANCE:
        return "LPIPS ↓" if used["perceptual"].startswith("LPIPS") else "distance ↓ (paper: LPIPS)"
    return {"e_warp": "E_warp ↓", "e_long": "E_long ↓"}.get(metric.name, metric.name)


def label(name: str) -> str:
    """A method, an edit or a row for people."""
    return LABELS.get(name, name)
