"""Summaries, settings and provenance of a run as HTML tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

CONTROLS = "controls"
LABELS = {
    "input": "aligned input",
    "direct": "direct edit",
    "target": "target of both phases",
    "phase1": "after phase 1",
    "phase2": "after phase 2",
    "dvp": "Deep Video Prior",
    "wplus": "codes optimised one by one",
}
# Soft hyphens, so that all five fit a phone's width.
COLUMNS = {
    "e_warp": ("E_warp", "in 1e-4, lower is steadier"),
    "e_long": ("E_long", "in 1e-4, lower is steadier"),
    "distance": ("dis\u00adtance", "to the direct edit"),
    "sharpness": ("sharp\u00adness", "share kept"),
    "motion": ("motion", "share kept"),
}


def label(variant: str) -> str:
    """A variant's name for people."""
    return LABELS.get(variant, variant.replace("_", " "))


def figures_table(metrics: Mapping[str, Any], controls: Mapping[str, Any]) -> str:
    """Summaries of all variants, controls below a line of their own."""
    head = "".join(f'<th scope="col">{title}<span>{hint}</span></th>' for title, hint in COLUMNS.values())
    direct = metrics["direct"]
    rows = [figures_row(name, row, direct) for name, row in metrics.items() if name != CONTROLS]
    if controls:
        rows.append(
            f'<tr class="group"><th colspan="{len(COLUMNS) + 1}" scope="colgroup">'
            "controls: only smoothing, nothing optimised</th></tr>"
        )
        rows += [figures_row(name, row, direct) for name, row in controls.items()]
    return (
        f'<table class="figures"><thead><tr><th scope="col">variant</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def figures_row(name: str, row: Mapping[str, Any], direct: Mapping[str, Any]) -> str:
    """One variant's figures; warping errors with their change against the direct edit."""
    cells = "".join(
        f"<td>{figure(key, row.get(key), None if name == 'direct' else direct.get(key))}</td>"
        for key in COLUMNS
    )
    return f'<tr data-variant="{escape(name)}"><th scope="row">{escape(label(name))}</th>{cells}</tr>'


def figure(key: str, value: float | None, direct: float | None) -> str:
    """A cell: warping errors in units of 1e-4, a dash where nothing could be measured."""
    if value is None:
        return "&ndash;"
    if not key.startswith("e_"):
        return f"{value:.3f}"
    shown = f"{1e4 * value:#.3g}".rstrip(".")
    return f'{shown}<span class="change">{change(value / direct)}</span>' if direct else shown


def change(ratio: float) -> str:
    """A ratio as a change in percent; adding 0 turns -0.0 into 0.0."""
    percent = 100 * (ratio - 1)
    text = f"{percent:+.0f} %" if abs(percent) >= 10 else f"{round(percent, 1) + 0.0:+.1f} %"
    return text.replace("-", "\u2212")


def conditions_sentence(metrics: Mapping[str, Any]) -> str:
    """What the warping error depends on."""
    conditions = metrics["direct"].get("conditions", {}).get("e_warp", {})
    parts = [f"{name.replace('_', ' ')} {value}" for name, value in conditions.items()]
    return f"E_warp measured under: {', '.join(parts)}." if parts else ""


def pairs_table(value: Mapping[str, Any]) -> str:
    """Nested settings as rows of ``dotted.name`` and value."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>'
        for name, text in flatten(value)
    )
    return f'<table class="pairs"><tbody>{rows}</tbody></table>'


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, text) of everything in nested dictionaries and lists of dictionaries."""
    if isinstance(value, Mapping) and value:
        parts = list(value.items())
    elif isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
        parts = list(enumerate(value))
    else:
        yield name, value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
        return
    for key, entry in parts:
        yield from flatten(entry, f"{name}.{key}" if name else str(key))
