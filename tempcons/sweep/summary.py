"""A sweep over seeds as one table of methods: every variant of metrics.json, averaged over the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from tempcons.check import InputError
from tempcons.sweep.folder import Job, swept
from tempcons.sweep.marks import METRICS, read_object
from tempcons.sweep.table import line

SEED, EDIT, MANIFEST = "seed", "edit", "manifest.json"
DOMAINS = {"in": "in-domain", "out": "out-of-domain"}
FLOW_FIGURES = ("e_warp", "e_long")
PLAIN_FIGURES = ("distance", "sharpness", "motion")


@dataclass(frozen=True)
class Column:
    """A figure: its name, and the second flow estimator it comes from (None: the main one)."""

    figure: str
    flow: str | None = None

    def of(self, row: dict[str, Any]) -> float | None:
        """Its value in a variant's figures, None where it couldn't be measured."""
        values = row if self.flow is None else row.get("second_flow", {}).get(self.flow, {})
        return values.get(self.figure)


def summary(folder: Path, jobs: Sequence[Job]) -> str:
    """Markdown: a section per combination of settings, a row per variant, means over the seeds.

    Errors are in 1e-4 with their mean change against the direct edit of the same seed and, in
    brackets, the smallest and the largest change. Sharpness and motion are shares of the direct
    edit's. Where only edits and seeds were swept, a section per domain is the mean over its edits.

    Args:
        folder: the sweep's folder.
        jobs: finished jobs in it.

    Raises:
        InputError: the jobs of one section don't hold the same variants.
    """
    parts = [heading(folder, jobs)]
    for name, group in by_settings(jobs).items():
        documents = [variants(read_object(folder / job.key / METRICS)) for job in group]
        seeds = [str(read_object(folder / job.key / MANIFEST)["seed"]) for job in group]
        title = f"{name or 'all runs'} ({len(seeds)} seeds: {', '.join(seeds)})"
        parts.append(section(title, documents))
    return "\n\n".join([*parts, *means_over_edits(folder, jobs)])


def means_over_edits(folder: Path, jobs: Sequence[Job]) -> list[str]:
    """A table for the edits of each domain together, where jobs differ in their edits and seeds alone."""
    names = set(swept(jobs))
    if EDIT not in names or not names <= {EDIT, SEED}:
        return []
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for job in jobs:
        edit = read_object(folder / job.key / MANIFEST)["settings"]["edit"]
        runs = found.setdefault(edit["domain"], {}).setdefault(edit["name"], [])
        runs.append(variants(read_object(folder / job.key / METRICS)))
    return [
        section(
            f"mean over {DOMAINS[domain]} edits ({', '.join(edits)})",
            list(chain.from_iterable(edits.values())),
        )
        for domain, edits in found.items()
        if len(edits) > 1
    ]


def heading(folder: Path, jobs: Sequence[Job]) -> str:
    """Clip, networks, machine and date of the first run: a figure without them says little."""
    manifest = read_object(folder / jobs[0].key / MANIFEST)
    environment = manifest["environment"]
    return (
        f"`{manifest['input']['path'].rsplit('/', 1)[-1]}`, {len(manifest['clip']['frame_ids'])} frames; "
        f"recipe `{manifest['recipe']}`; flow {manifest['networks']['flow']}, second flow "
        f"{manifest['networks']['second_flow']}; distance {manifest['networks']['perceptual']}; "
        f"{environment['processor']} CPU, {environment['cores']} cores, torch "
        f"{environment['packages']['torch']}; {environment['date']}"
    )


def by_settings(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    """Jobs that differ in their seed alone, by what else they were told."""
    names = [name for name in swept(jobs) if name != SEED]
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.label(names), []).append(job)
    return groups


def variants(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every variant of a run's metrics.json, the controls last; full frames have figures of their own."""
    controls = document.get("controls", {})
    others = ("controls", "full_frame")
    return {name: row for name, row in document.items() if name not in others} | controls


def section(title: str, documents: Sequence[dict[str, dict[str, Any]]]) -> str:
    """The table of runs of one kind."""
    names = list(documents[0])
    if any(list(document) != names for document in documents):
        raise InputError("sweep", f"the runs of {title!r} hold different variants", "run them the same way")
    second = list(documents[0]["direct"].get("second_flow", {}))
    columns = [Column(f, flow) for flow in [None, *second] for f in FLOW_FIGURES]
    columns += [Column(figure) for figure in PLAIN_FIGURES]
    titles = [f"{c.figure} ({c.flow})" if c.flow else c.figure for c in columns]
    rows = [line(["variant", *titles]), line(["---"] * (len(columns) + 1))]
    for variant in names:
        cells = [cell(column, variant, documents) for column in columns]
        rows.append(line([variant, *cells]))
    return f"### {title}\n\n" + "\n".join(rows)


def cell(column: Column, variant: str, documents: Sequence[dict[str, dict[str, Any]]]) -> str:
    """Mean of a figure over the seeds; errors with their change against the direct edit."""
    values = [column.of(document[variant]) for document in documents]
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        return "-"
    if column.figure not in FLOW_FIGURES:
        return f"{fmean(found):.3f}"
    text = f"{1e4 * fmean(found):.2f}"
    direct = [column.of(document["direct"]) for document in documents]
    if variant == "direct" or not all(direct):
        return text
    changes = [100 * (value / (whole or 1) - 1) for value, whole in zip(found, direct, strict=True)]
    return f"{text} ({fmean(changes):+.0f} % [{min(changes):+.0f}, {max(changes):+.0f}])"
