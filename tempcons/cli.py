"""What stands between the command line and Hydra: clear errors, near names, exit codes."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from tempcons.check import ConfigError, TempconsError, near_names

STOPPED = 130
SWEEP_FLAGS = ("-m", "--multirun")
DRY_RUN = "dry_run=true"
# A forecast leaves no folder, no log and no record of its settings.
LEAVES_NOTHING = ("hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=stdout")
STACK = "edit.stack="
STACK_EXAMPLE = 'such as "edit.stack=[surprised,happy:0.5]", in quotes or without spaces'


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
    """``--cfg`` prints values instead of references unless told otherwise; ``-m`` may stand anywhere.

    ``--dry-run`` becomes the setting of that name, with those of Hydra that keep it from writing.

    Raises:
        ConfigError: a forecast of a sweep.
    """
    first = [a for a in argv[1:] if a in SWEEP_FLAGS]
    argv = [*argv[:1], *first, *(a for a in argv[1:] if a not in SWEEP_FLAGS)]
    argv = [DRY_RUN if a == "--dry-run" else a for a in argv]
    if DRY_RUN in argv:
        if first:
            raise ConfigError("config", "--dry-run of a sweep", "forecast one of its jobs: leave -m out")
        argv += LEAVES_NOTHING
    asks = any(a == "--cfg" or a.startswith("--cfg=") or a == "-c" for a in argv)
    return [*argv, "--resolve"] if asks and "--resolve" not in argv else argv


def settings_of(conf: Path) -> list[str]:
    """Names at the top level of the composed configuration: settings, groups and their packages."""
    primary = yaml.safe_load((conf / "config.yaml").read_text())
    listed = [str(key) for item in primary["defaults"] if isinstance(item, dict) for key in item]
    groups = [name for key in listed for name in key.split()[-1].split("@")]
    return [name for name in dict.fromkeys([*primary, *groups]) if name != "defaults" and "/" not in name]


def expand_stack(arguments: Sequence[str], conf: Path) -> list[str]:
    """``edit.stack=[surprised,happy:0.5]`` as Hydra composes it: ``edit=stack``, each edit in its own place.

    Raises:
        ConfigError: not a list, an unknown or repeated edit, or another edit chosen beside it.
    """
    given = [a for a in arguments if a.startswith(STACK)]
    if not given:
        return list(arguments)
    others = [a for a in arguments if a not in given and a != "edit=stack"]
    chosen = [a for a in others if a.startswith("edit=")]
    if len(given) > 1 or chosen:
        raise ConfigError("config", f"{' '.join([*given, *chosen])}: one list names all edits", STACK_EXAMPLE)
    parts = stack_parts(given[0].removeprefix(STACK), conf)
    told = [f"edit.name={'+'.join(parts)}", f"edit.domain={stack_domain(parts, conf)}"]
    layers = [f"+edit@edit.layers.{name}={name}" for name in parts]
    strengths = [f"edit.layers.{name}.strength={s}" for name, s in parts.items() if s is not None]
    # The user's own arguments come last, so that they win.
    return [*others[:1], "edit=stack", *layers, *told, *strengths, *others[1:]]


def stack_domain(names: Iterable[str], conf: Path) -> str:
    """Out-of-domain if one of the edits is: the recipe's values go by it."""
    files = [conf / "edit" / f"{name}.yaml" for name in names]
    return "out" if "out" in [yaml.safe_load(file.read_text())["domain"] for file in files] else "in"


def stack_parts(text: str, conf: Path) -> dict[str, str | None]:
    """Names of edits, and their strengths where told, from a list in brackets."""
    listed = re.fullmatch(r"\[([^\[\]]+)\]", text.strip())
    if listed is None:
        raise ConfigError("config", f"{STACK}{text} is no list of edits", STACK_EXAMPLE)
    known = [p.stem for p in (conf / "edit").glob("*.yaml") if p.stem != "stack"]
    parts: dict[str, str | None] = {}
    for item in listed[1].split(","):
        name, _, strength = (part.strip() for part in item.partition(":"))
        if name not in known:
            raise ConfigError("config", f"no edit named {name!r} for edit.stack", near_names(name, known))
        if name in parts:
            raise ConfigError("config", f"edit.stack names {name} twice", "give it a strength, as in happy:2")
        parts[name] = strength or None
    return parts


def check_choices(arguments: Sequence[str], conf: Path) -> None:
    """Refuse unknown settings, and ``group=option`` where the option does not exist, suggesting near names.

    Raises:
        ConfigError: an unknown edit, family, recipe, ..., a name that the configuration hasn't, or a value
            that Hydra's grammar can't read.
    """
    settings = settings_of(conf)
    for argument in arguments:
        check_grammar(argument)
        group, _, chosen = argument.partition("=")
        name = re.split(r"[./@:]", group.lstrip("+~"))[0]
        if chosen and name.isidentifier() and name not in settings:
            raise ConfigError("config", f"no setting {name!r}", near_names(name, settings))
        folder = conf / group.partition("@")[0]
        if not chosen or not group.isidentifier() or not folder.is_dir():
            continue
        known = [p.stem for p in folder.glob("*.yaml")]
        for option in filter(None, chosen.strip("[]").split(",")):
            if option not in known:
                raise ConfigError("config", f"no {group} named {option!r}", near_names(option, known))


def check_grammar(argument: str) -> None:
    """Raise ConfigError where ``setting=value`` can't be read; flags and their values are not looked at."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    if argument.startswith("-") or "=" not in argument:
        return
    try:
        OverridesParser.create().parse_overrides([argument])
    except OverrideParseException as error:
        name, _, value = argument.partition("=")
        hint = (
            "commas, brackets and quotes have a meaning of their own; "
            f"a value that holds some stands in quotes: {name}=\"'{value}'\""
        )
        raise ConfigError("config", f"can't read {argument}", hint) from error
