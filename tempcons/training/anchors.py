"""Which frames are paired with which anchor: one for a short clip, one a scene, or one a window."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from tempcons.check import ConfigError
from tempcons.types import AnchorWindow, Edited

log = logging.getLogger(__name__)

SHORTEST = 3


@dataclass(frozen=True)
class AnchorsConfig:
    """How many anchors a clip has.

    Attributes:
        window: frames that share an anchor, for clips whose frames no longer show the same content; None:
            one anchor for every scene (the paper's single anchor, where there is no cut).
        overlap: share of a window that the next one holds too.
    """

    window: int | None = None
    overlap: float = 0.5

    def __post_init__(self) -> None:
        if self.window is not None and self.window < SHORTEST:
            what = f"anchors.window = {self.window}"
            raise ConfigError("config", what, f"{SHORTEST} frames or more, or null")
        if not 0 < self.overlap < 1:
            raise ConfigError("config", f"anchors.overlap = {self.overlap}", "a share between 0 and 1")

    def spans(self, scene: range) -> list[range]:
        """Windows that cover a scene; the last one ends with it."""
        if self.window is None or len(scene) <= self.window:
            return [scene]
        shared = min(max(1, round(self.overlap * self.window)), self.window - 1)
        last = scene.stop - self.window
        starts = [*range(scene.start, last, self.window - shared), last]
        return [range(at, at + self.window) for at in starts]


def middle(frames: range) -> int:
    """The paper's anchor."""
    return frames[(len(frames) - 1) // 2]


def plan_windows(scenes: Sequence[range], config: AnchorsConfig, named: int | None) -> list[AnchorWindow]:
    """The anchor of every window is its middle frame; of the one it's nearest to the middle of, the named.

    Args:
        scenes: positions.
        config: length and overlap of windows.
        named: position of the anchor that the user chose, or None.
    """
    spans = [span for scene in scenes for span in config.spans(scene)]
    holding = [span for span in spans if named is not None and named in span]
    own = min(holding, key=lambda span: abs(middle(span) - (named or 0)), default=None)
    chosen = {} if own is None or named is None else {own: named}
    return [AnchorWindow(chosen.get(span, middle(span)), span) for span in spans]


def with_windows(
    edited: Edited, scenes: Sequence[range], config: AnchorsConfig, named_id: int | None
) -> Edited:
    """The direct edit with an anchor for each scene or window; as it is where one anchor serves all.

    Args:
        edited: with the single anchor.
        scenes: positions of each scene's frames.
        config: length and overlap of windows.
        named_id: frame id of the anchor that the user chose, or None.
    """
    ids = edited.frame_ids.tolist()
    windows = plan_windows(scenes, config, None if named_id is None else ids.index(named_id))
    if len(windows) == 1:
        return edited
    central = min(windows, key=lambda window: abs(window.anchor - ids.index(edited.anchor_id)))
    anchors = [ids[window.anchor] for window in windows]
    log.info("edit: %d anchors, frames %s", len(anchors), anchors)
    spans = "-".join(f"{w.anchor}:{w.frames.start}:{w.frames.stop}" for w in windows)
    return replace(edited, anchor_id=ids[central.anchor], windows=tuple(windows), key=f"{edited.key}-{spans}")


def window_pairs(windows: Sequence[AnchorWindow]) -> list[tuple[int, int]]:
    """(anchor, i) within every window, and (anchor, next anchor) of windows that overlap."""
    pairs = [(w.anchor, i) for w in windows for i in w.frames if i != w.anchor]
    for one, other in pairwise(windows):
        if other.frames.start < one.frames.stop and one.anchor != other.anchor:
            pairs.append((one.anchor, other.anchor))
    return list(dict.fromkeys(pairs))
