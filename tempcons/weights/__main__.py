"""``python -m tempcons.weights list|fetch|verify|inspect``: official weights on this machine."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tempcons.check import WeightsError
from tempcons.weights.fetch import check_contents, fetch
from tempcons.weights.load import inspect
from tempcons.weights.registry import entries, entry, verify, weights_folder


def list_weights() -> None:
    """All entries, and which of them are here."""
    print(f"weights in {weights_folder()}")
    for item in entries().values():
        here = "here" if item.path.is_file() else "-"
        how = f"fetch {item.name}" if item.mirrors else f"by hand from {item.page} to {item.file}"
        print(f"\n{item.name:28} {here}\n  {item.what}\n  licence: {item.licence}\n  get it:  {how}")


def fetch_weights(names: Sequence[str]) -> None:
    """Fetch each, and say which licence it comes under."""
    for name in names:
        item = entry(name)
        path = fetch(item)
        print(f"{name}: {path} ({item.licence})")


def verify_weights(names: Sequence[str]) -> int:
    """Check hash, layout and resolution of the named files, or of all that are here; count failures."""
    items = [entry(n) for n in names] or [e for e in entries().values() if e.path.is_file()]
    failures = 0
    for item in items:
        try:
            check_contents(item)
            print(f"{item.name}: good, SHA-256 {verify(item, record=True)}")
        except WeightsError as error:
            failures += 1
            print(error, file=sys.stderr)
    if not items:
        print(f"no weights in {weights_folder()}")
    return failures


def inspect_file(path: Path) -> None:
    """Print what a file holds."""
    found = inspect(path)
    numbers = sum(t.numel() for t in found.state.values())
    print(f"{path}: {found.kind}")
    print(f"  tensors     {len(found.state)} ({numbers:,} numbers)")
    if found.resolution is not None:
        print(f"  resolution  {found.resolution} px")
    if len(found.state) == 1:
        print(f"  shape       {tuple(next(iter(found.state.values())).shape)}")
    if found.latent_avg is not None:
        print(f"  mean code   {tuple(found.latent_avg.shape)}")
    print(f"  bytes       {path.stat().st_size:,}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 1 after an error, told in one message."""
    parser = argparse.ArgumentParser(prog="python -m tempcons.weights", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is, and what is here")
    commands.add_parser("fetch", help="download").add_argument("names", nargs="+")
    commands.add_parser("verify", help="check hashes and contents").add_argument("names", nargs="*")
    commands.add_parser("inspect", help="what a file holds").add_argument("file", type=Path)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        if given.command == "list":
            list_weights()
        elif given.command == "fetch":
            fetch_weights(given.names)
        elif given.command == "verify":
            return min(1, verify_weights(given.names))
        else:
            inspect_file(given.file)
    except WeightsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
