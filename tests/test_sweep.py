"""Sweeps: names, resuming, failures that stay alone, reading the folder."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from omegaconf import read_write
from PIL import Image
from sweep_app import figures

from tempcons.check import ConfigError, InputError
from tempcons.store.artefact import write_json
from tempcons.sweep import callback, devices, marks
from tempcons.sweep.__main__ import main
from tempcons.sweep.folder import count, read_sweep, swept, write_plan
from tempcons.sweep.job import objectives, run_once
from tempcons.sweep.naming import arguments_of, job_key, product, sweep_folder
from tempcons.sweep.pareto import Point, front, fronts, points_of
from tempcons.sweep.plot_words import Size, covers, labels, once, overlap

ROOT = Path(__file__).parent.parent
APP, TRAIN = ROOT / "tests" / "sweep_app.py", ROOT / "train.py"
QUIET = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
PLUGINS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
}
RAY = [
    "hydra.launcher.ray.init.address=local",
    "+hydra.launcher.ray.init.num_cpus=2",
    "+hydra.launcher.ray.init.include_dashboard=false",
]
GRID = ["lambda_r=0.5,3", "alpha=0.04,0.08,0.12"]
DIRECT = {"e_warp": 9e-4, "e_long": 2e-3, "distance": 0.0, "sharpness": 1.0, "motion": 1.0}


def compose(*overrides: str) -> Any:
    """The configuration as a multirun has it, with Hydra's own part."""
    import hydra

    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return hydra.compose("config", overrides=list(overrides), return_hydra_config=True)


def process(program: Path, root: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    """A multirun in a process group of its own."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(program), "-m", f"output.root={root}", "trainer.accelerator=cpu", *arguments],
        cwd=ROOT,
        env=os.environ | QUIET | {"PYTHONPATH": paths} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def sweep(program: Path, root: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a multirun."""
    started = process(program, root, *arguments)
    output, _ = started.communicate(timeout=600)
    return started.returncode, output


def kill_when(started: subprocess.Popen, folder: Path, ready: Callable[[], bool]) -> None:
    """SIGKILL to the launcher and its unfinished jobs as soon as ``ready``."""
    try:
        deadline = time.monotonic() + 600
        while not ready():
            assert started.poll() is None, started.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        for ran in folder.glob("*/ran.txt"):
            if not (ran.parent / marks.DONE).exists():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(ran.read_text().split()[-1]), signal.SIGKILL)
        started.communicate()


def launched_by(launcher: str) -> list[str]:
    """Arguments for a launcher, whose plugin must be there."""
    if launcher != "basic":
        pytest.importorskip(PLUGINS[launcher], reason="the extra 'cluster' isn't installed")
    return [f"hydra/launcher={launcher}", *(RAY if launcher == "ray" else [])]


def fake_job(folder: Path, lambda_r: float, alpha: float, **changes: float) -> None:
    """What a finished job leaves."""
    folder.mkdir(parents=True)
    found = figures(lambda_r, alpha) | changes
    write_json(folder / marks.METRICS, {"direct": DIRECT, "phase2": found, "controls": {}})
    marks.mark_done(folder, [f"lambda_r={lambda_r:g}", f"alpha={alpha:g}", "clip.num_frames=4"], found)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A sweep of four finished jobs."""
    for lambda_r in (0.5, 3.0):
        for alpha in (0.04, 0.12):
            fake_job(tmp_path / f"job-{lambda_r}-{alpha}", lambda_r, alpha)
    return tmp_path


# names


def test_a_job_is_named_by_what_changes_its_result() -> None:
    key = job_key(compose("alpha=1"))
    assert key == job_key(
        compose("alpha=1.0", "output.root=elsewhere", "logger.wandb=disabled", "sweep.name=x")
    )
    assert key != job_key(compose("alpha=1.01"))
    assert key != job_key(compose("alpha=1", "seed=1"))
    assert len(key) == 16


def test_products_and_later_arguments() -> None:
    assert product(["alpha=1,2", "phase=both", "alpha=3,4"]) == [
        ["alpha=3", "phase=both"],
        ["alpha=4", "phase=both"],
    ]
    assert len(product(["seed=range(0,3)", "lambda_r=choice(1,2)"])) == 6
    assert product(["seed=range(3,3)"]) == []


def test_the_same_command_has_the_same_folder() -> None:
    asked = sweep_folder("out", None, None, ["lambda_r=1,2", "alpha=0.1,0.2", "output.root=out"])
    assert asked == sweep_folder("out", None, {}, ["alpha=0.1,0.2", "lambda_r=1,2"])
    assert asked == sweep_folder("out", None, {"lambda_r": "1,2"}, ["alpha=0.1,0.2"])
    assert asked.startswith("out/sweeps/alpha-lambda_r-")
    assert asked != sweep_folder("out", None, None, ["lambda_r=1,3", "alpha=0.1,0.2"])
    assert sweep_folder("out", "mine", None, ["lambda_r=1,2"]) == "out/sweeps/mine"


# before a sweep


def test_the_experiment_is_found_and_swept() -> None:
    config = compose("experiment=sweep_lambda_r_alpha")
    jobs = product(arguments_of(config))
    assert len(jobs) == 6 and all("experiment=sweep_lambda_r_alpha" in job for job in jobs)
    assert config.hydra.sweep.dir == "outputs/sweeps/lambda_r_alpha"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alpha=0.04"], "empty sweep"),
        ([], "empty sweep"),
        (["seed=range(3,3)"], "empty sweep"),
        (["alhpa=0.04,0.08"], "Could not override 'alhpa'"),
        (["edit.domain=sideways,in"], r"^config: edit\.domain = 'sideways'; known: in, out$"),
    ],
)
def test_sweeps_that_cannot_work_are_refused(arguments: list[str], message: str) -> None:
    import hydra

    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base=None):
        config = hydra.compose("config", return_hydra_config=True)
        with read_write(config):
            config.hydra.overrides.task, config.hydra.job.config_name = arguments, "config"
        with pytest.raises(ConfigError, match=message):
            callback.plan(config)


@pytest.mark.parametrize(
    ("choice", "extra"),
    [
        ("launcher=joblib", "cluster"),
        ("launcher=ray", "cluster"),
        ("launcher=submitit_local", "cluster"),
        ("launcher=submitit_slurm", "cluster"),
        ("sweeper=pareto", "sweeps"),
    ],
)
def test_a_missing_plugin_names_its_extra(choice: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(f"hydra/{choice}")
    monkeypatch.setattr(callback, "installed", lambda package: False)
    with pytest.raises(ConfigError, match=rf"isn't installed; pip install .tempcons\[{extra}\]"):
        callback.check_plugins(config)


def test_plugins_that_are_there_pass() -> None:
    callback.check_plugins(compose())
    assert not callback.installed("hydra_plugins.no_such_launcher")
    assert not callback.installed("no_such_package.child")


def test_two_sweeps_in_one_folder_are_refused(tmp_path: Path) -> None:
    first = callback.take(tmp_path / "a")
    with pytest.raises(ConfigError, match="another sweep runs in"):
        callback.take(tmp_path / "a")
    first.release()
    callback.take(tmp_path / "a").release()


def test_each_process_takes_another_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(devices.SLURM, raising=False)
    monkeypatch.setenv(devices.VISIBLE, "2,5")
    monkeypatch.setattr(devices, "_taken", [])
    assert devices.take_gpu(tmp_path) == "2"
    assert devices.take_gpu(tmp_path) == "2", "a process keeps its GPU"
    monkeypatch.setenv(devices.VISIBLE, "2,5")
    held, devices._taken = devices._taken, []
    assert devices.take_gpu(tmp_path) == "5"
    for lock in [*held, *devices._taken]:
        lock.release()


def test_slurm_gives_gpus_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.SLURM, "7")
    monkeypatch.setenv(devices.VISIBLE, "0")
    assert devices.take_gpu(tmp_path) == "0"
    assert not list(tmp_path.iterdir())


def test_a_job_of_a_sweep_has_one_device(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="every device gets a job of its own"):
        run_once(compose("trainer.devices=2"), tmp_path)


def test_objectives() -> None:
    found = {"e_warp": 1.0, "distance": 2.0}
    assert objectives(found, ["e_warp"]) == 1.0
    assert objectives(found, ["e_warp", "distance"]) == (1.0, 2.0)
    with pytest.raises(ConfigError, match="did you mean e_warp"):
        objectives(found, ["ewarp"])
    with pytest.raises(ConfigError, match="empty"):
        objectives(found, [])


# reading


def test_status_counts_every_state(finished: Path, capsys: pytest.CaptureFixture) -> None:
    marks.mark_failed(finished / "job-3.0-0.12", ["lambda_r=3.0"], "clip: no such file", None)
    (finished / "job-3.0-0.12" / marks.DONE).unlink()
    write_plan(finished, {"job-0.5-0.04": ["lambda_r=0.5", "alpha=0.04"], "not-started": ["alpha=1"]})
    main(["status", str(finished)])
    output = capsys.readouterr().out
    assert "3 done, 1 failed, 1 missing" in output and "clip: no such file" in output
    assert [job.key for job in read_sweep(finished)][:2] == ["job-0.5-0.04", "not-started"]


def test_a_plan_grows_with_later_commands(tmp_path: Path) -> None:
    write_plan(tmp_path, {"a": ["alpha=1"]})
    write_plan(tmp_path, {"b": ["alpha=2"]})
    assert [(job.key, job.state) for job in read_sweep(tmp_path)] == [("a", "missing"), ("b", "missing")]


def test_swept_settings_are_those_that_differ(finished: Path) -> None:
    assert swept(read_sweep(finished)) == ["lambda_r", "alpha"]


def test_table_shows_e_warp_with_its_companions(finished: Path, capsys: pytest.CaptureFixture) -> None:
    main(["table", str(finished)])
    head, _, first, *rest = capsys.readouterr().out.splitlines()
    columns = [cell.strip() for cell in head.strip("|").split("|")]
    assert columns == ["lambda_r", "alpha", "e_warp", "e_long", "distance", "sharpness", "motion", "job"]
    assert "| 0.5 | 0.04 | 1.07e-4 (-88 %) | 2.14e-4 (-89 %) | 0.027 | 0.950 | 1.000 |" in first
    assert len(rest) == 3


def test_csv_has_full_precision(finished: Path, capsys: pytest.CaptureFixture) -> None:
    main(["table", str(finished), "--csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 4
    first = rows[0]
    assert float(first["e_warp"]) == figures(0.5, 0.04)["e_warp"]
    assert float(first["direct_e_warp"]) == DIRECT["e_warp"]


def test_a_figure_that_was_not_measured_is_left_open(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    fake_job(tmp_path / "a", 1.0, 0.1)
    done = json.loads((tmp_path / "a" / marks.DONE).read_text())
    del done["figures"]["e_long"]
    write_json(tmp_path / "a" / marks.DONE, done)
    main(["table", str(tmp_path)])
    assert "| 1.00e-4 (-89 %) | - | 0.050 |" in capsys.readouterr().out


def test_front() -> None:
    points = [
        Point(x, y, label)
        for x, y, label in [(3, 1, "c"), (1, 3, "a"), (2, 2, "b"), (2, 3, "-"), (3, 1, "=")]
    ]
    assert [point.label for point in front(points)] == ["a", "b", "c"]
    assert front([]) == []


def test_no_front_joins_jobs_of_different_edits(tmp_path: Path) -> None:
    for edit, step in (("happy", 0), ("angry", 1)):
        for alpha in (0.04, 0.08):
            folder = tmp_path / f"{edit}-{alpha}"
            fake_job(folder, 1.0, alpha + step)
            done = json.loads((folder / marks.DONE).read_text())
            marks.mark_done(folder, [f"edit={edit}", f"alpha={alpha}"], done["figures"])
    lines = fronts(points_of(read_sweep(tmp_path)))
    assert [{point.group for point in line} for line in lines] == [{"edit=angry"}, {"edit=happy"}]
    assert all(len(line) == 2 for line in lines)


def test_words_of_a_plot_stand_clear() -> None:
    places = [((100.0 + 9 * at, 200.0), f"lambda_r={at}") for at in range(6)]
    places += [((300.0, 300.0), "direct edit"), ((330.0, 310.0), "direct edit")]
    assert [words for _, words in once(places)].count("direct edit") == 1
    found = labels(once(places), [at for at, _ in places], Size())
    assert 2 < len(found) < len(places), "those without room are left out"
    for one, other in itertools.combinations(found, 2):
        assert not overlap(one, other)
    assert not any(covers(text, at) for text in found for at, _ in places)


def test_pareto_plots(finished: Path, capsys: pytest.CaptureFixture) -> None:
    fake_job(finished / "blurred", 3.0, 0.5, sharpness=0.5)
    main(["pareto", str(finished)])
    assert "distance" in capsys.readouterr().out
    with Image.open(finished / "pareto.png") as picture:
        assert picture.size == (800, 560) and len(picture.getcolors(1 << 20) or []) > 3
    main(["pareto", str(finished), "--out", str(finished / "p.svg")])
    drawing = (finished / "p.svg").read_text()
    assert drawing.count("<circle") == 6, "five jobs and the direct edit"
    assert drawing.count('fill="white" stroke') == 1, "the blurred one is hollow"


@pytest.mark.parametrize("command", ["status", "table", "pareto"])
def test_bad_folders_end_with_one_message(
    command: str, finished: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture
) -> None:
    empty = tmp_path_factory.mktemp("empty")
    (finished / "job-0.5-0.12" / marks.METRICS).write_text("{ broken")
    cases = {empty / "none": "no folder", empty: "holds no jobs", finished: "broken run folder"}
    for folder, message in cases.items():
        with pytest.raises(SystemExit) as stopped:
            main([command, str(folder)])
        said = capsys.readouterr()
        assert stopped.value.code == 1
        assert message in said.err + said.out and said.err.count("error:") == 1


def test_nothing_finished(tmp_path: Path) -> None:
    write_plan(tmp_path, {"a": ["alpha=1"]})
    with pytest.raises(SystemExit):
        main(["table", str(tmp_path)])


@pytest.mark.parametrize("damage", ["", "[]", '{"overrides": []}'])
def test_a_damaged_mark_is_not_taken_for_a_result(finished: Path, damage: str) -> None:
    folder = finished / "job-0.5-0.04"
    (folder / marks.DONE).write_text(damage)
    with pytest.raises(InputError, match="start the sweep again"):
        marks.finished(folder)
    assert count(read_sweep(finished)) == "3 done, 1 broken"


# whole sweeps


def printed_table(folder: Path, capsys: pytest.CaptureFixture) -> str:
    main(["table", str(folder)])
    return capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", *PLUGINS])
def test_a_killed_sweep_goes_on_where_it_stopped(
    tmp_path: Path, launcher: str, capsys: pytest.CaptureFixture
) -> None:
    folder, arguments = tmp_path / "sweeps" / "s", [*GRID, "sweep.name=s", *launched_by(launcher)]
    kill_when(process(APP, tmp_path, *arguments), folder, (folder / marks.PLAN).exists)
    started = process(APP, tmp_path, *arguments, SWEEP_APP_STOP_AT="0.08")
    kill_when(started, folder, lambda: any(folder.glob("*/waiting")))
    assert len(list(folder.glob("*/done.json"))) < 6, "the job that waits was killed"
    third = process(APP, tmp_path, *arguments, SWEEP_APP_STOP_AT="0.12")
    somewhere = time.monotonic() + random.uniform(1, 12)
    kill_when(third, folder, lambda: time.monotonic() > somewhere or third.poll() is not None)
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*/done.json")}
    code, output = sweep(APP, tmp_path, *arguments)
    assert code == 0, output
    assert "6 done" in output
    assert {path: path.stat().st_mtime_ns for path in written} == written
    for job in read_sweep(folder):
        fake_job(tmp_path / "whole" / job.key, *(float(job.setting(n) or 0) for n in ("lambda_r", "alpha")))
    assert printed_table(folder, capsys) == in_order(printed_table(tmp_path / "whole", capsys), folder)


@pytest.mark.slow
def test_a_killed_ray_worker_costs_its_job_alone(tmp_path: Path) -> None:
    arguments = ["alpha=0.04,0.08,0.12", "sweep.name=s", *launched_by("ray")]
    started = process(APP, tmp_path, *arguments, SWEEP_APP_STOP_AT="0.08")
    folder = tmp_path / "sweeps" / "s"
    try:
        wait_for(lambda: any(folder.glob("*/waiting")), started)
        (waiting,) = folder.glob("*/waiting")
        os.kill(int((waiting.parent / "ran.txt").read_text()), signal.SIGKILL)
        output, _ = started.communicate(timeout=600)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
    assert started.returncode == 0, output
    assert "3 done" in output
    ran = {job.setting("alpha"): (folder / job.key / "ran.txt").read_text() for job in read_sweep(folder)}
    assert {alpha: len(text.split()) for alpha, text in ran.items()} == {"0.04": 1, "0.08": 2, "0.12": 1}


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[str]:
    """A Ray cluster of two nodes of one CPU each, by its address; nothing but its own processes is ended."""
    pytest.importorskip(PLUGINS["ray"], reason="the extra 'cluster' isn't installed")
    # Not 127.0.0.1, which Ray takes for the machine's outer address.
    head, port = "127.0.0.2", free_port("127.0.0.2")
    common = ["--num-cpus=1", "--block", "--disable-usage-stats"]
    first = [f"--node-ip-address={head}", f"--port={port}", "--include-dashboard=false"]
    second = [f"--address={head}:{port}", "--node-ip-address=127.0.0.3"]
    nodes = []
    try:
        nodes.append(ray_node(["--head", *first, *common]))
        wait_for(lambda: reachable(head, port), nodes[0])
        nodes.append(ray_node([*second, *common]))
        yield f"{head}:{port}"
    finally:
        for node in reversed(nodes):
            end_group(node)


def ray_node(arguments: list[str]) -> subprocess.Popen:
    """A node in a process group of its own."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments],
        env=os.environ | QUIET | {"PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def end_group(started: subprocess.Popen) -> None:
    """End a process and its group; one that takes long over it is killed."""
    os.killpg(started.pid, signal.SIGTERM)
    try:
        started.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def free_port(host: str) -> int:
    """A port that nobody listens on."""
    with socket.create_server((host, 0)) as server:
        return server.getsockname()[1]


def reachable(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as client:
        return client.connect_ex((host, port)) == 0


def wait_for(ready: Callable[[], bool], running: subprocess.Popen, patience_s: float = 300) -> None:
    """Until ``ready``; the process must not end before."""
    end = time.monotonic() + patience_s
    while not ready():
        assert running.poll() is None and time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_a_sweep_over_two_ray_nodes(tmp_path: Path, two_nodes: str) -> None:
    """With the launcher's configuration as it is: it joins a cluster that runs already."""
    arguments = ["hydra/launcher=ray", f"hydra.launcher.ray.init.address={two_nodes}", "sweep.name=s"]
    started = process(APP, tmp_path, *GRID, *arguments, SWEEP_APP_PAUSE_S="2")
    output, _ = started.communicate(timeout=600)
    assert started.returncode == 0 and "6 done" in output, output
    nodes = [path.read_text() for path in (tmp_path / "sweeps" / "s").glob("*/node.txt")]
    assert len(nodes) == 6 and len(set(nodes)) == 2, "both nodes had jobs"


def in_order(table: str, folder: Path) -> str:
    """A printed table with its rows in the order of a sweep's plan."""
    head, rule, *rows = table.splitlines()
    by_key = {row.split("|")[-2].strip(): row for row in rows}
    return "\n".join([head, rule, *(by_key[job.key] for job in read_sweep(folder))]) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", *PLUGINS])
def test_a_failing_job_leaves_the_others_alone(tmp_path: Path, launcher: str) -> None:
    code, output = sweep(APP, tmp_path, "alpha=-1,0.04,2,0.08", "sweep.name=s", *launched_by(launcher))
    assert code == 1, output
    assert "2 done, 2 failed" in output
    assert "failed: " in output and "config: alpha = -1; 0 or more" in output
    assert "ValueError: a fault of the program" in output
    jobs = read_sweep(tmp_path / "sweeps" / "s")
    assert [job.state for job in jobs] == ["failed", "done", "failed", "done"]
    trace = json.loads((tmp_path / "sweeps" / "s" / jobs[2].key / marks.FAILED).read_text())["traceback"]
    assert "stand_in" in trace


@pytest.mark.slow
def test_a_search_counts_failed_trials(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="the extra 'sweeps' isn't installed")
    search = ["hydra/sweeper=pareto", "hydra.sweeper.n_trials=4", "sweep.objectives=[e_warp,distance]"]
    for low, code in ((0.01, 0), (-0.15, 1)):
        space = ["lambda_r=tag(log,interval(0.1,10))", f"alpha=interval({low},{low + 0.05})"]
        found, output = sweep(APP, tmp_path, *search, *space, f"sweep.name=s{code}")
        assert found == code, output
    assert count(read_sweep(tmp_path / "sweeps" / "s0")) == "4 done"


@pytest.mark.slow
def test_a_broken_folder_stops_its_job_only(tmp_path: Path) -> None:
    arguments = ["alpha=0.04,0.08", "sweep.name=s"]
    assert sweep(APP, tmp_path, *arguments)[0] == 0
    folder = tmp_path / "sweeps" / "s"
    (folder / read_sweep(folder)[0].key / marks.METRICS).unlink()
    with FileLock(folder / marks.LOCK):
        code, output = sweep(APP, tmp_path, *arguments)
        assert code == 1 and "error: sweep: another sweep runs in" in output
    code, output = sweep(APP, tmp_path, *arguments)
    assert code == 1
    assert "broken run folder" in output and "1 done, 1 broken" in output


def refused(started: subprocess.Popen) -> str:
    """What a program that must fail says: one message, and no traceback."""
    output, _ = started.communicate(timeout=600)
    assert started.returncode == 1, output
    assert output.count("error: ") == 1 and "Traceback" not in output, output
    return output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alpha=0.04"], "error: sweep: empty sweep: no setting has several values"),
        (["seed=range(3,3)"], "error: sweep: empty sweep"),
        (["alpha=0.04,0.08", "hydra/launcher=ray"], "hydra_ray_launcher isn't installed; pip install"),
        (["alpha=0.04,0.08", "hydra/launcher=submitit_slurm"], "hydra_submitit_launcher isn't installed"),
        (["alpha=0.04,0.08", "hydra/sweeper=pareto"], "hydra_optuna_sweeper isn't installed"),
    ],
)
def test_what_cannot_run_is_refused_in_one_message(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    # A package of this name hides all plugins that are installed.
    hidden = tmp_path / "hidden" / "hydra_plugins"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").touch()
    paths = os.pathsep.join([str(hidden.parent), str(ROOT), str(ROOT / "tests")])
    output = refused(process(APP, tmp_path / "out", *arguments, PYTHONPATH=paths))
    assert message in output
    assert not list((tmp_path / "out").rglob("ran.txt"))


@pytest.mark.slow
def test_online_logging_without_an_account_fails_its_jobs(tmp_path: Path) -> None:
    arguments = ["alpha=0.04,0.08", "sweep.name=s", "phase=direct", "logger.wandb=online"]
    arguments += [f"output.cache={tmp_path / 'cache'}"]
    nobody = {"WANDB_MODE": "online", "NETRC": str(tmp_path / "none"), "WANDB_API_KEY": ""}
    started = process(TRAIN, tmp_path, *arguments, **nobody)
    output, _ = started.communicate(timeout=600)
    assert started.returncode == 1, output
    assert "W&B online needs an account" in output and "logger.wandb=offline" in output
    assert count(read_sweep(tmp_path / "sweeps" / "s")) == "2 failed"
    assert "Traceback" not in output


def test_slurm_composes() -> None:
    """Slurm itself isn't here; its launcher takes exactly the settings that conf/ gives it."""
    config = compose("hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu")
    launcher = config.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher") and launcher.partition == "gpu"
    assert (launcher.gpus_per_node, launcher.tasks_per_node) == (1, 1), "one job, one GPU"
    assert config.hydra.sweep.dir in launcher.submitit_folder
    plugin = pytest.importorskip(
        "hydra_plugins.hydra_submitit_launcher.config", reason="the extra 'cluster' isn't installed"
    )
    known = set(plugin.SlurmQueueConf.__dataclass_fields__)
    assert set(launcher) <= known


@pytest.mark.slow
def test_the_real_pipeline_killed_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = [
        "alpha=0.04,0.05",
        "phase=direct",
        "clip.num_frames=4",
        "inversion.pivotal.steps=2",
        "logger.wandb=disabled",
        "sweep.name=s",
        f"output.cache={tmp_path / 'cache'}",
    ]
    folder = tmp_path / "sweeps" / "s"
    kill_when(process(TRAIN, tmp_path, *arguments), folder, lambda: any(folder.glob("*/done.json")))
    (first,) = folder.glob("*/done.json")
    written = first.stat().st_mtime_ns
    code, output = sweep(TRAIN, tmp_path, *arguments)
    assert code == 0, output
    assert "finished before, not run again" in output and "2 done" in output
    assert first.stat().st_mtime_ns == written
    head, _, *rows = printed_table(folder, capsys).splitlines()
    assert "e_warp" in head and len(rows) == 2
