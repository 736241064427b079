"""A sweep's results to look at: input, direct edit and every job's video, played together and wiped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from tempcons.media.frames import FrameStore
from tempcons.media.probe import probe
from tempcons.media.read import read_pyav
from tempcons.stages.page_tables import label
from tempcons.stages.page_videos import VideoWall
from tempcons.sweep.folder import Job

RUN_PAGE = "report.html"
RESULTS = ("phase2", "phase1", "direct")
COMPARED = ("input", "direct")
SLICE_ROW = 0.5
# Of all videos together, decoded; those beyond are named instead of shown.
MOST_BYTES = 600_000_000

Manifests = Mapping[str, Mapping[str, Any]]


@dataclass
class Collected:
    """Videos of the page as they are found, and why others are left out."""

    videos: dict[str, Path] = field(default_factory=dict)
    frames: dict[str, FrameStore] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def add(self, name: str, title: str, video: Path) -> bool:
        """Show a video under a name, or say why not."""
        reason = self.why_not(video)
        if reason:
            self.left_out.append(f"{title}: {reason}")
            return False
        self.videos[name], self.labels[name] = video, title
        self.frames[name] = FrameStore(np.stack(list(read_pyav(info := probe(video), range(len(info))))))
        return True

    def why_not(self, video: Path) -> str:
        """Why a video can't stand beside the others; empty if it can."""
        if not video.exists():
            return f"{video.name} was removed"
        info = probe(video)
        shape = (len(info), *info.size)
        shown = [store.array.shape[:3] for store in self.frames.values()]
        if shown and shape != shown[0]:
            return "other frames than the first job's"
        if (len(shown) + 1) * 3 * int(np.prod(shape)) > MOST_BYTES:
            return "too much for one page"
        return ""

    def add_once(self, name: str, title: str, video: Path) -> None:
        """The same input or direct edit is shown once, whichever job it comes from."""
        content = sha256(video.read_bytes()).hexdigest() if video.exists() else str(video)
        if content in self.seen:
            return
        is_first = name not in self.videos
        key = name if is_first else f"{name}-{len(self.seen)}"
        self.seen.add(content)
        self.add(key, title, video)


def collect(folder: Path, done: Sequence[Job], manifests: Manifests, names: Sequence[str]) -> Collected:
    """Inputs and direct edits (each once), then the jobs' results."""
    found = Collected()
    for name in COMPARED:
        for job in done:
            outputs = manifests[job.key]["outputs"]
            if name in outputs:
                title = f"{label(name)} ({job.label(names)})"
                found.add_once(name, title, folder / job.key / outputs[name])
        if name in found.videos and not any(key.startswith(f"{name}-") for key in found.videos):
            found.labels[name] = label(name)
    for job in done:
        outputs = manifests[job.key]["outputs"]
        last = next((name for name in RESULTS if name in outputs), None)
        title = job.label(names) or job.key
        if last is None:
            found.left_out.append(f"{title}: no video")
            continue
        is_shown = found.add(job.key, title, folder / job.key / outputs[last])
        if is_shown and (folder / job.key / RUN_PAGE).exists():
            found.links[job.key] = f"{job.key}/{RUN_PAGE}"
    return found


def results(
    folder: Path, done: Sequence[Job], manifests: Manifests, names: Sequence[str], best: str | None
) -> dict[str, str]:
    """HTML of the videos and the wipe (direct edit against the job ``best``), and the script's data."""
    found = collect(folder, done, manifests, names)
    missing = "".join(f"<li>{escape(text)}</li>" for text in found.left_out)
    note = f'<p class="quiet">Not shown:</p><ul class="unfinished">{missing}</ul>' if missing else ""
    if not found.videos:
        return {
            "videos": f'<section><h2 id="videos-title">Videos</h2>{note}</section>',
            "wipe": "",
            "data": "null",
        }
    first = manifests[done[0].key]
    fps = float(probe(next(iter(found.videos.values()))).fps)
    row = first["settings"].get("metrics", {}).get("slice_row", SLICE_ROW)
    ids = first.get("clip", {}).get("frame_ids", ())
    wall = VideoWall(found.videos, found.frames, fps, ids, row, found.labels, found.links)
    shown = list(found.videos)
    right = best if best in found.videos else shown[-1]
    parts = wall.parts("direct" if "direct" in shown else shown[0], right, {})
    return parts | {"videos": parts["videos"] + note}
