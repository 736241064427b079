"""A sweep as one page: what its settings buy and cost, every result to look at, and where it all comes from.

Like the page of a run it is one file that asks for nothing else; links lead to the runs' own pages beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from tempcons.stages.page import frame, write_html
from tempcons.stages.page_tables import COLUMNS, figure, label, pairs_table
from tempcons.stages.page_videos import asset
from tempcons.sweep.drawing import svg
from tempcons.sweep.folder import Job, count, read_sweep, require_whole, swept
from tempcons.sweep.marks import read_object
from tempcons.sweep.page_results import RUN_PAGE, results
from tempcons.sweep.pareto import X, Y, fronts, picture, points_of
from tempcons.sweep.plot_words import Size

NAME, MANIFEST = "report.html", "manifest.json"
NARROW = Size(390, 430)
Compared = tuple[str, Mapping[str, Any], list[Job]]
# Parts of a manifest that differ from job to job by their nature, or are shown elsewhere.
OWN = ("settings", "hyper", "stages", "peak_memory_mb", "outputs", "seed")


@dataclass(frozen=True)
class Sweep:
    """What the page shows.

    Attributes:
        folder: the sweep's folder.
        jobs: all of them; ``done`` are the finished ones.
        manifests: of the finished jobs, by key.
    """

    folder: Path
    jobs: list[Job]
    done: list[Job]
    manifests: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Sweep:
        """The sweep in a folder.

        Raises:
            InputError: no sweep, a broken run folder, or nothing finished.
        """
        jobs = read_sweep(folder)
        done = require_whole(jobs)
        return cls(folder, jobs, done, {job.key: read_object(folder / job.key / MANIFEST) for job in done})


def write_sweep_page(folder: Path) -> Path:
    """Write ``DIR/report.html``.

    Raises:
        InputError: no sweep, a broken run folder, nothing finished, or the page can't be written.
    """
    sweep = Sweep.read(folder)
    return write_html(folder / NAME, lambda: render(sweep))


def render(sweep: Sweep) -> str:
    """The page's HTML. Everything that comes from a sweep is escaped."""
    style, script = asset("page.css") + asset("sweep.css"), asset("sweep.js") + asset("page.js")
    names = swept(sweep.done)
    best = next((job.key for job in sweep.done if job.key in best_keys(sweep.done)), None)
    settings = [manifest["settings"] for manifest in sweep.manifests.values()]
    origins = [{k: v for k, v in m.items() if k not in OWN} for m in sweep.manifests.values()]
    parts = results(sweep.folder, sweep.done, sweep.manifests, names, best)
    main = Template(asset("sweep.html")).substitute(
        plot=plots(sweep.done),
        jobs=jobs_table(sweep),
        others=others_table(sweep.done),
        unfinished=unfinished(sweep.jobs, names),
        settings=pairs_table(shared(settings)),
        provenance=pairs_table(shared(origins)),
        **parts,
    )
    subtitle = f"{count(sweep.jobs)}; swept: {', '.join(names) or 'nothing'}"
    return frame(main, f"Sweep {sweep.folder.resolve().name}", subtitle, style, script, parts["data"])


def plots(done: Sequence[Job]) -> str:
    """The plane of E_warp and distance, for wide screens and for phones."""
    if not any(X in job.figures and Y in job.figures for job in done):
        return f"<p>No job has both {escape(X)} and {escape(Y)}: the clip has too few frames.</p>"
    points = points_of(done)
    wide, narrow = (svg(picture(points, size, legend=False)) for size in (Size(), NARROW))
    return f'<div class="pareto wide">{wide}</div><div class="pareto narrow">{narrow}</div>'


def best_keys(done: Sequence[Job]) -> set[str]:
    """Keys of the jobs on a front."""
    measured = [job for job in done if X in job.figures and Y in job.figures]
    return {point.key for line in fronts(points_of(measured) if measured else []) for point in line}


def jobs_table(sweep: Sweep) -> str:
    """Swept settings and figures of every finished job, then what they are compared with."""
    names, best = swept(sweep.done), best_keys(sweep.done)
    titles = [*((name, "") for name in names or ["job"]), *COLUMNS.values(), ("run", "")]
    head = "".join(
        f'<th scope="col"><button type="button" data-column="{at}">{escape(title)}</button>'
        f"<span>{hint}</span></th>"
        for at, (title, hint) in enumerate(titles)
    )
    rows = "".join(job_row(sweep.folder, job, names, job.key in best) for job in sweep.done)
    span = max(1, len(names))
    others = compared(sweep.done)
    body = "".join(other_row(name, "", figures, span) for name, figures, _ in others)
    group = f'<tr class="group"><th colspan="{len(titles)}" scope="colgroup">to compare with</th></tr>'
    return (
        f'<table class="figures jobs"><thead><tr>{head}</tr></thead><tbody id="jobs">{rows}</tbody>'
        f"{f'<tbody>{group}{body}</tbody>' if few(others) else ''}</table>"
    )


def few(others: Sequence[Compared]) -> bool:
    """Whether all jobs have the same direct edit and controls."""
    return len({name for name, _, _ in others}) == len(others)


def others_table(done: Sequence[Job]) -> str:
    """Direct edits and controls where jobs have others: a table to open; else they are in the jobs' own."""
    others, names = compared(done), swept(done)
    if few(others):
        return ""
    head = "".join(f'<th scope="col">{title}<span>{hint}</span></th>' for title, hint in COLUMNS.values())
    rows = "".join(other_row(name, common(jobs, names), figures, 1) for name, figures, jobs in others)
    return (
        f"<details><summary>To compare with: direct edits and controls ({len(others)})</summary>"
        '<div class="scroll" tabindex="0" role="region" aria-label="To compare with">'
        f'<table class="figures jobs"><thead><tr><th scope="col">variant</th>{head}<th></th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def common(jobs: Sequence[Job], names: Sequence[str]) -> str:
    """What some jobs were all told."""
    return jobs[0].label([name for name in names if len({job.setting(name) for job in jobs}) == 1])


def job_row(folder: Path, job: Job, names: Sequence[str], is_best: bool) -> str:
    """One job; a cell's value to sort by stands beside the text."""
    told = [job.setting(name) or "" for name in names] or [job.key]
    first, *rest = (escape(value) for value in told)
    settings = f'<th scope="row" data-sort="{first}">{first or "&ndash;"}</th>'
    settings += "".join(f'<td data-sort="{value}">{value or "&ndash;"}</td>' for value in rest)
    figures = "".join(figure_cell(job, name) for name in COLUMNS)
    key, best = escape(job.key), ' class="best-row"' if is_best else ""
    link = f"<td>{run_link(folder, job)}</td>"
    return f'<tr id="job-{key}" data-job="{key}"{best}>{settings}{figures}{link}</tr>'


def figure_cell(job: Job, name: str) -> str:
    """A figure with its change against the direct edit."""
    value, direct = job.figures.get(name), job.others["direct"].get(name)
    return f'<td data-sort="{"" if value is None else value}">{figure(name, value, direct)}</td>'


def run_link(folder: Path, job: Job) -> str:
    """A link to the job's own page; a dash where it was removed."""
    if not (folder / job.key / RUN_PAGE).exists():
        return "&ndash;"
    return f'<a href="{escape(job.key)}/{RUN_PAGE}">open</a>'


def compared(done: Sequence[Job]) -> list[Compared]:
    """Direct edits and controls of all jobs, each once, with the jobs that share it."""
    found: dict[Any, Compared] = {}
    for job in done:
        for name, figures in job.others.items():
            place = name, figures.get(Y), figures.get(X)
            found.setdefault(place, (name, figures, []))[2].append(job)
    return list(found.values())


def other_row(name: str, told: str, figures: Mapping[str, Any], span: int) -> str:
    """A direct edit or control, and what the jobs were told that it belongs to."""
    cells = "".join(f"<td>{figure(column, figures.get(column), None)}</td>" for column in COLUMNS)
    whose = f'<span class="change">{escape(told)}</span>' if told else ""
    title = f'<th scope="row" colspan="{span}">{escape(label(name))}{whose}</th>'
    return f"<tr>{title}{cells}<td></td></tr>"


def unfinished(jobs: Sequence[Job], names: Sequence[str]) -> str:
    """Jobs without a result, and why."""
    rest = [job for job in jobs if job.state != "done"]
    if not rest:
        return ""
    known = swept(jobs) or names
    items = "".join(
        f"<li><strong>{escape(job.state)}</strong> {escape(job.label(known) or job.key)} "
        f"{escape(job.error)}</li>"
        for job in rest
    )
    return f'<h3>Not finished</h3><ul class="unfinished">{items}</ul>'


def shared(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is the same in all of several nested dictionaries."""
    first, *others = values
    found: dict[str, Any] = {}
    for key, value in first.items():
        rest = [other.get(key) for other in others if key in other]
        if len(rest) < len(others):
            continue
        if isinstance(value, Mapping) and all(isinstance(other, Mapping) for other in rest):
            inner = shared([value, *(other for other in rest if isinstance(other, Mapping))])
            found |= {key: inner} if inner or not value else {}
        elif all(other == value for other in rest):
            found[key] = value
    return found
