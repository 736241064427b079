"""Measure any videos or folders of frames, also those of other tools.

python -m tempcons.metrics result.mp4 --reference direct.mp4 --input aligned.mp4
python -m tempcons.metrics results/clip1 results/clip2 --reference direct/clip1 direct/clip2 --out measured
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tempcons.check import ConfigError, InputError, TempconsError
from tempcons.media.frames import FrameStore
from tempcons.metrics.evaluate import Evaluator, VideoMetrics, check_same_clip
from tempcons.metrics.source import read_frames
from tempcons.metrics.table import METRICS, NEED_REFERENCE, choose_metrics, result_table, write_results
from tempcons.models.flow import FlowNetwork, flow_by_name
from tempcons.models.perceptual import Lite0Distance

TABLE_WIDTH = 160


def parser() -> argparse.ArgumentParser:
    """The command line."""
    form = argparse.RawDescriptionHelpFormatter
    arguments = argparse.ArgumentParser(
        "python -m tempcons.metrics", description=__doc__, formatter_class=form
    )
    add = arguments.add_argument
    add("videos", nargs="+", type=Path, metavar="DIR_OR_VIDEO", help="what to measure, one clip each")
    add("--reference", nargs="+", type=Path, default=[], help="the direct edit of each clip")
    add("--input", nargs="+", type=Path, default=[], help="the aligned input of each clip")
    add(
        "--metrics", nargs="+", default=[], metavar="NAME", help=f"columns of the table: {', '.join(METRICS)}"
    )
    add(
        "--flow",
        nargs="+",
        default=["dis-medium-x2", "farneback-w15-x1"],
        help="flow networks, main one first",
    )
    add("--anchor", type=int, help="position of the anchor frame (default: the middle one)")
    add("--size", type=int, help="bring the longer side to so many pixels first, by area averaging")
    add("--level", type=float, default=0.95, help="of the bootstrap intervals over clips (default 0.95)")
    add("--out", type=Path, help="folder for per_frame.csv, summary.csv and metrics.json")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all is measured, 1 after an error that is printed as one message."""
    try:
        run(parser().parse_args(argv))
    except TempconsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table, write the files.

    Raises:
        TempconsError: what the user can mend.
    """
    metrics = choose_metrics(arguments.metrics, bool(arguments.reference), bool(arguments.input))
    _check(arguments)
    flows = [flow_by_name(name) for name in arguments.flow]
    perceptual = Lite0Distance()
    results = {}
    for index, name in enumerate(clip_names(arguments.videos)):
        results[name] = _measure(arguments, index, flows, perceptual)
    Console(width=TABLE_WIDTH).print(result_table(results, metrics, arguments.level))
    print(f"flow on the output frames; pictures in [0, 1]; distance: {perceptual.name}")
    if arguments.out is not None:
        for path in write_results(arguments.out, results, arguments.level):
            print(path)


def clip_names(paths: Sequence[Path]) -> list[str]:
    """File or folder names; whole paths where names are the same."""
    names = [path.stem if path.is_file() else path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _check(arguments: argparse.Namespace) -> None:
    """Cross-checks of the command line."""
    count = len(arguments.videos)
    for option in ("reference", "input"):
        given = len(getattr(arguments, option))
        if given not in (0, count):
            hint = "give one for each, in the same order"
            raise ConfigError("metrics", f"{count} videos but {given} given with --{option}", hint)
    if len(set(map(str, arguments.videos))) < count:
        raise ConfigError("metrics", "the same video is given twice")
    if not 0 < arguments.level < 1:
        raise ConfigError("metrics", f"--level {arguments.level}", "it lies between 0 and 1, such as 0.95")
    if arguments.size is not None and arguments.size < 1:
        raise ConfigError("metrics", f"--size {arguments.size}", "give a number of pixels")
    if arguments.out is not None and arguments.out.exists() and not arguments.out.is_dir():
        raise InputError("metrics", f"--out {arguments.out} is a file", "give a folder")


def _measure(
    arguments: argparse.Namespace, index: int, flows: list[FlowNetwork], perceptual: Lite0Distance
) -> VideoMetrics:
    """One clip with its reference and input; without a reference the values relative to it are None."""
    with tempfile.TemporaryDirectory(prefix="tempcons-metrics-") as name:
        scratch = Path(name)
        video = arguments.videos[index]
        frames = read_frames(video, scratch / "video.npy", arguments.size)
        others = {
            option: _read_beside(
                getattr(arguments, option), index, video, frames, scratch / f"{option}.npy", arguments.size
            )
            for option in ("reference", "input")
        }
        anchor = len(frames) // 2 if arguments.anchor is None else arguments.anchor
        direct = others["reference"] or frames
        result = Evaluator(direct, anchor, flows, perceptual, others["input"]).measure(frames)
    return result if others["reference"] else _without_reference(result)


def _read_beside(
    paths: list[Path], index: int, video: Path, frames: FrameStore, file: Path, size: int | None
) -> FrameStore | None:
    """The reference or input of a clip, of the same length and size."""
    if not paths:
        return None
    other = read_frames(paths[index], file, size)
    check_same_clip(frames, other, str(video), str(paths[index]))
    return other


def _without_reference(result: VideoMetrics) -> VideoMetrics:
    summary = {name: value for name, value in result.summary.items() if name not in NEED_REFERENCE}
    summary["second_flow"] = {
        network: {name: value for name, value in values.items() if name not in NEED_REFERENCE}
        for network, values in result.summary["second_flow"].items()
    }
    rows = [{key: value for key, value in row.items() if key != "distance"} for row in result.per_frame]
    kept = {name: about for name, about in result.conditions.items() if name not in NEED_REFERENCE}
    return VideoMetrics(summary, rows, kept)


if __name__ == "__main__":
    sys.exit(main())
