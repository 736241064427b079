"""What stands between the command line and Hydra: clear errors, near names, exit codes."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tempcons.check import ConfigError, TempconsError, near_names

STOPPED = 130


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn errors a user can mend into one message on stderr and exit code 1.

    Ctrl-C exits with 130 and says how to go on; anything else is a fault of the program and keeps
    its traceback.
    """
    try:
        yield
    except TempconsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(STOPPED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(
            f"error: output: no space left on the disk ({error.filename or 'while writing'}); "
            "free some, or set output.root and output.cache to another disk",
            file=sys.stderr,
        )
        sys.exit(1)


def expand_arguments(argv: list[str]) -> list[str]:
    """``--cfg`` prints values instead of references unless told otherwise."""
    asks = any(a == "--cfg" or a.startswith("--cfg=") or a == "-c" for a in argv)
    return [*argv, "--resolve"] if asks and "--resolve" not in argv else argv


def check_choices(arguments: Sequence[str], conf: Path) -> None:
    """Refuse ``group=option`` where the option does not exist, suggesting near names.

    Raises:
        ConfigError: an unknown edit, family, recipe, ...
    """
    for argument in arguments:
        group, _, chosen = argument.partition("=")
        folder = conf / group.partition("@")[0]
        if not chosen or not group.isidentifier() or not folder.is_dir():
            continue
        known = [p.stem for p in folder.glob("*.yaml")]
        for option in chosen.split(","):
            if option not in known:
                raise ConfigError("config", f"no {group} named {option!r}", near_names(option, known))
