"""The W&B dashboard of tempcons from code: a workspace, or a report, of one sweep or of a whole project.

    python -m experiments.dashboard --json dashboard.json                 writes what it would show
    python -m experiments.dashboard --entity ME --group lambda_r_alpha    a workspace of a sweep
    python -m experiments.dashboard --entity ME --group lambda_r_alpha --report

Runs that were logged offline are sent first with ``wandb sync``. All but ``--json`` needs an account and
``pip install "tempcons[dashboard]"``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tempcons.check import ConfigError
from tempcons.cli import report_errors
from tempcons.store.artefact import write_json
from tempcons.training.logging import EPOCH_METRICS, MASKS, SLICES, TARGET, VIDEO, metric_name

TITLES = {"phase1": "Phase 1: codes", "phase2": "Phase 2: generator"}
FIGURES = ("e_warp", "e_long", "distance", "sharpness", "motion")
VIDEOS = ("side_by_side", "direct", "phase1", "phase2")
SETTINGS = ("lambda_r", "alpha", "seed")


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        kind: "line" over a logged metric, "scatter" of final figures, "parallel" axes of settings and final
            figures, or "media".
        title: its heading.
        x: the metric along the x-axis (line, scatter).
        y: metrics; settings of a "parallel" one stand in ``settings``. Names of media for "media".
        settings: names of the run's settings.
    """

    kind: Literal["line", "scatter", "parallel", "media"]
    title: str
    y: tuple[str, ...]
    x: str | None = None
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Dashboard:
    """Everything that is shown of the runs of a group (null: of all)."""

    project: str
    group: str | None
    sections: tuple[Section, ...]

    @property
    def title(self) -> str:
        return f"tempcons: {self.group}" if self.group else "tempcons"


def dashboard(project: str, group: str | None) -> Dashboard:
    """What is worth looking at: E_warp never without its companions."""
    return Dashboard(project, group, (results(), *(epochs(phase) for phase in TITLES), pictures()))


def results() -> Section:
    """Final figures of all runs."""
    return Section(
        "Results",
        (
            Panel("scatter", "Consistency against closeness", ("e_warp",), "distance"),
            Panel("scatter", "Consistency against sharpness", ("e_warp",), "sharpness"),
            Panel("parallel", "Settings and figures", FIGURES, settings=SETTINGS),
        ),
    )


def epochs(phase: str) -> Section:
    """Curves of a phase; a distance is logged under one of its two names."""
    epoch = metric_name(phase, "epoch")
    distance = ("distance", "lpips")
    single = [(name,) for name in EPOCH_METRICS if name not in distance]
    curves = [*single, distance, ("loss",)]
    return Section(
        TITLES[phase],
        tuple(
            Panel("line", " or ".join(names), tuple(metric_name(phase, n) for n in names), epoch)
            for names in curves
        ),
    )


def pictures() -> Section:
    """Videos, x-t slices and masks."""
    return Section(
        "Pictures",
        (
            Panel("media", "Videos", tuple(f"{VIDEO}/{name}" for name in VIDEOS)),
            Panel("media", "x-t slices", (SLICES,)),
            Panel("media", "Masks and flow", tuple(f"{MASKS}/{name}" for name in (TARGET, *TITLES))),
        ),
    )


def to_wandb(panel: Panel, wr: Any) -> Any:
    """A panel as ``wandb_workspaces.reports.v2`` has it."""
    if panel.kind == "line":
        return wr.LinePlot(title=panel.title, x=panel.x, y=list(panel.y))
    if panel.kind == "scatter":
        return wr.ScatterPlot(title=panel.title, x=wr.SummaryMetric(panel.x), y=wr.SummaryMetric(panel.y[0]))
    if panel.kind == "media":
        return wr.MediaBrowser(title=panel.title, media_keys=list(panel.y), num_columns=2)
    axes = [*map(wr.Config, panel.settings), *map(wr.SummaryMetric, panel.y)]
    columns = [wr.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes]
    return wr.ParallelCoordinatesPlot(title=panel.title, columns=columns)


def workspace(shown: Dashboard, entity: str, ws: Any, wr: Any) -> Any:
    """The dashboard as a W&B workspace, not saved yet."""
    sections = [
        ws.Section(name=section.title, panels=[to_wandb(p, wr) for p in section.panels], is_open=True)
        for section in shown.sections
    ]
    filters = [ws.Metric("Group") == shown.group] if shown.group else []
    return ws.Workspace(
        entity=entity,
        project=shown.project,
        name=shown.title,
        sections=sections,
        runset_settings=ws.RunsetSettings(filters=filters),
    )


def report(shown: Dashboard, entity: str, wr: Any) -> Any:
    """The dashboard as a W&B report, not saved yet."""
    filters = f"Group == '{shown.group}'" if shown.group else ""
    blocks: list[Any] = []
    for section in shown.sections:
        runs = wr.Runset(entity=entity, project=shown.project, filters=filters)
        panels = [to_wandb(panel, wr) for panel in section.panels]
        blocks += [wr.H2(section.title), wr.PanelGrid(runsets=[runs], panels=panels)]
    about = "E_warp alone says little: read it with distance, sharpness and motion."
    return wr.Report(
        entity=entity, project=shown.project, title=shown.title, description=about, blocks=blocks
    )


def save(shown: Dashboard, entity: str, as_report: bool) -> str:
    """Make it on W&B.

    Returns:
        Its address.

    Raises:
        ConfigError: the extra isn't installed, no account, or W&B can't be reached.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        hint = 'pip install "tempcons[dashboard]", or write it to a file: --json dashboard.json'
        raise ConfigError("dashboard", "wandb-workspaces isn't installed", hint) from error
    import wandb

    try:
        wandb.Api()
        made = report(shown, entity, wr) if as_report else workspace(shown, entity, ws, wr)
        return made.save().url
    except (wandb.errors.UsageError, wandb.errors.CommError) as error:
        hint = "log in with wandb login, or write it to a file: --json dashboard.json"
        raise ConfigError("dashboard", f"W&B doesn't take it ({error})", hint) from error


def main(arguments: Sequence[str]) -> None:
    """The command."""
    options = parser().parse_args(arguments)
    shown = dashboard(options.project, options.group)
    with report_errors():
        if options.json is not None:
            write_json(options.json, {"title": shown.title, **asdict(shown)})
            print(f"dashboard: {options.json}")
        else:
            print(f"dashboard: {save(shown, options.entity, options.report)}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    found.add_argument("--project", default="tempcons", help="W&B project; default: tempcons")
    found.add_argument("--group", help="a sweep: the name of its folder; default: all runs")
    found.add_argument("--report", action="store_true", help="a report instead of a workspace")
    where = found.add_mutually_exclusive_group(required=True)
    where.add_argument("--entity", help="W&B user or team; makes it there")
    where.add_argument("--json", type=Path, metavar="FILE", help="write it to a file; needs no account")
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
