"""Read a sweep: ``python -m tempcons.sweep status|table|summary|paper|pareto|report DIR``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tempcons.check import InputError
from tempcons.cli import report_errors
from tempcons.sweep.folder import Job, count, read_sweep, require_whole, swept
from tempcons.sweep.paper import TABLES, make_report
from tempcons.sweep.paper_formats import FORMATS, write_report
from tempcons.sweep.pareto import draw
from tempcons.sweep.summary import summary
from tempcons.sweep.table import comma_separated, markdown


def main(arguments: Sequence[str]) -> None:
    """One command; errors end it with one message and exit code 1."""
    options = parser().parse_args(arguments)
    with report_errors():
        options.command(options)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser("python -m tempcons.sweep", description="Read the folder of a sweep.")
    commands = top.add_subparsers(required=True, metavar="status|table|summary|paper|pareto|report")
    for name, function, about in (
        ("status", status, "which jobs are done, failed or missing"),
        ("table", table, "swept settings and figures of the finished jobs"),
        ("summary", seeds, "all variants, averaged over the seeds"),
        ("paper", paper, "one of the paper's tables, with its own figures beside ours"),
        ("pareto", pareto, "plot of E_warp against the distance to the direct edit"),
        ("report", report, "one page of everything, to open in a browser: DIR/report.html"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("folder", type=Path, metavar="DIR", help="the sweep's folder")
        command.set_defaults(command=function)
        if name == "table":
            command.add_argument("--csv", action="store_true", help="CSV instead of Markdown")
        if name == "paper":
            command.add_argument("--table", required=True, choices=TABLES, help="which of them")
            command.add_argument("--format", default="md", choices=FORMATS, help="what is printed")
            command.add_argument("--out", type=Path, metavar="FOLDER", help="write all formats there instead")
        if name == "pareto":
            command.add_argument("--out", type=Path, help="a .png or .svg file; default: DIR/pareto.png")
    return top


def status(options: argparse.Namespace) -> None:
    """Print the state of every job.

    Raises:
        InputError: a folder is broken; the others are printed first.
    """
    jobs = read_sweep(options.folder)
    names = swept(jobs)
    for job in jobs:
        about = f"  {job.error}" if job.error else ""
        print(f"{job.state:8}{job.key}  {job.label(names)}{about}")
    print(count(jobs))
    broken = sum(job.state == "broken" for job in jobs)
    if broken:
        raise InputError("sweep", f"broken run folders: {broken} of {len(jobs)}", "remove them, start again")


def table(options: argparse.Namespace) -> None:
    """Print the table."""
    done = finished_jobs(options.folder)
    print(comma_separated(done) if options.csv else markdown(done), end="" if options.csv else "\n")


def seeds(options: argparse.Namespace) -> None:
    """Print the table of variants."""
    print(summary(options.folder, finished_jobs(options.folder)))


def paper(options: argparse.Namespace) -> None:
    """Print one of the paper's tables, or write it in every format."""
    report = make_report(options.folder, finished_jobs(options.folder), options.table)
    if options.out is None:
        print(FORMATS[options.format](report), end="")
        return
    for path in write_report(report, options.out):
        print(path)


def pareto(options: argparse.Namespace) -> None:
    """Draw the plot, print the front."""
    path = options.out or options.folder / "pareto.png"
    best = draw(finished_jobs(options.folder), path)
    for point in best:
        print(f"E_warp {1e4 * point.y:.2f}e-4  distance {point.x:.4f}  {point.label}")
    print(f"plot: {path}")


def report(options: argparse.Namespace) -> None:
    """Write the sweep's page."""
    # Not at the top: it brings torch, which the others do without.
    from tempcons.sweep.page import write_sweep_page

    print(f"report: {write_sweep_page(options.folder)}")


def finished_jobs(folder: Path) -> list[Job]:
    """Finished jobs; says on stderr how many are left out."""
    jobs = read_sweep(folder)
    done = require_whole(jobs)
    if len(done) < len(jobs):
        print(f"{count(jobs)}: only the finished ones are shown", file=sys.stderr)
    return done


if __name__ == "__main__":
    main(sys.argv[1:])
