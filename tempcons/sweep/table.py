"""A sweep as a table: Markdown to read, CSV to go on with; E_warp never stands alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tempcons.sweep.folder import Job, swept

COLUMNS = ("e_warp", "e_long", "distance", "sharpness", "motion")
MISSING = "-"


def markdown(jobs: Sequence[Job]) -> str:
    """One row per finished job, each error with its change against the direct edit.

    Errors in 1e-4, lower is better; sharpness and motion are shares of the direct edit's, 1 is best.
    """
    settings = swept(jobs)
    rows = [[*settings, *COLUMNS, "job"]]
    rows += [[*values(job, settings), *(cell(job, name) for name in COLUMNS), job.key] for job in jobs]
    return "\n".join([line(rows[0]), line(["---"] * len(rows[0])), *(line(row) for row in rows[1:])])


def line(cells: Sequence[str]) -> str:
    """One row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def values(job: Job, settings: Sequence[str]) -> list[str]:
    """The job's values of the swept settings."""
    return [job.setting(name) or MISSING for name in settings]


def cell(job: Job, name: str) -> str:
    """A figure as text: errors in 1e-4 with their change, the others as they are."""
    value, direct = job.figures.get(name), job.others["direct"].get(name)
    if value is None:
        return MISSING
    if not name.startswith("e_"):
        return f"{value:.3f}"
    change = f" ({100 * (value / direct - 1):+.0f} %)" if direct else ""
    return f"{1e4 * value:.2f}e-4{change}"


def comma_separated(jobs: Sequence[Job]) -> str:
    """CSV with full precision; ``direct_*`` are the figures of the direct edit."""
    settings = swept(jobs)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["job", *settings, *COLUMNS, *(f"direct_{name}" for name in COLUMNS)])
    for job in jobs:
        direct = job.others["direct"]
        figures = [job.figures.get(name, "") for name in COLUMNS]
        writer.writerow([job.key, *values(job, settings), *figures, *(direct.get(n, "") for n in COLUMNS)])
    return text.getvalue()
