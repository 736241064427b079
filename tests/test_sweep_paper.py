"""The paper's tables from sweeps: its rows and columns, its figures beside ours, and the controls below."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from tempcons.check import InputError
from tempcons.store.artefact import write_json
from tempcons.sweep.__main__ import main
from tempcons.sweep.folder import read_sweep
from tempcons.sweep.marks import mark_done
from tempcons.sweep.paper import METRICS, Report, Sheet, make_report
from tempcons.sweep.paper_formats import FORMATS
from tempcons.sweep.published import AVERAGE, DIRECT, TABLE_1, TABLE_2, TABLE_3

DOMAIN = {"nada_sketch": "out", "nada_pixar": "out", "surprised": "in", "happy": "in"}
CONTROLS = ("smoothed_codes", "flow_warped_mean")


def figures(e_warp: float) -> dict[str, Any]:
    values = {"e_warp": e_warp, "e_long": 2 * e_warp}
    second = {"farneback": {name: 3 * value for name, value in values.items()}}
    return {**values, "distance": 0.1, "sharpness": 0.9, "motion": 1.0, "second_flow": second}


def manifest(edit: str, phase: str, clip: str, seed: int) -> dict[str, Any]:
    """Where a run comes from, as far as tables tell it."""
    return {
        "settings": {
            "edit": {"name": edit, "domain": DOMAIN[edit]},
            "phase": phase,
            "seed": seed,
            "family": {"name": "embedded"},
            "clip": {"licence": "CC BY-NC-SA 4.0"},
        },
        "recipe": "tempcons",
        "input": {"path": f"/somewhere/{clip}"},
        "clip": {"frame_ids": [0, 1, 2]},
        "networks": {"flow": "dis", "second_flow": "farneback", "perceptual": "lite0", "device": "cpu"},
        "environment": {
            "tempcons": "0.1",
            "python": "3.11.9",
            "machine": "Linux-6",
            "processor": "x86_64",
            "cores": 2,
            "date": "2026-11-22",
            "packages": {"torch": "2.15"},
        },
    }


def write_run(
    folder: Path,
    edit: str,
    variants: dict[str, float],
    phase: str = "both",
    clip: str = "a.mp4",
    seed: int = 0,
) -> None:
    """A finished job with the E_warp of some variants; the direct edit has 8e-4."""
    run = folder / f"{edit}-{phase}-{clip}-{seed}"
    run.mkdir(parents=True)
    rows = {name: figures(value) for name, value in ({"direct": 8e-4} | variants).items()}
    controls = {name: figures(5e-4) for name in CONTROLS}
    write_json(run / "metrics.json", {**rows, "controls": controls, "full_frame": {"seam": 1.0}})
    write_json(run / "manifest.json", manifest(edit, phase, clip, seed))
    mark_done(run, [f"edit={edit}", f"seed={seed}"], {"e_warp": 1.0})


@pytest.fixture
def table1(tmp_path: Path) -> Path:
    """Two edits of the generator, the first with two seeds."""
    for seed, (ours, dvp) in enumerate(((2e-4, 3e-4), (4e-4, 5e-4))):
        write_run(
            tmp_path,
            "nada_sketch",
            {"dvp": dvp, "recipe=paper": 6e-4, "phase1": 7e-4, "phase2": ours},
            seed=seed,
        )
    write_run(tmp_path, "nada_pixar", {"dvp": 1e-4, "recipe=paper": 6e-4, "phase1": 7e-4, "phase2": 6e-4})
    told = {"overrides": {"task": ["experiment=table1", "output.root=/somewhere", "seed=0,1"]}}
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": told}))
    return tmp_path


def report_of(folder: Path, table: str) -> Report:
    return make_report(folder, read_sweep(folder), table)


def texts(sheet: Sheet, *labels: str) -> list[str]:
    """Cells of the row with these labels."""
    [cells] = [cells for found, cells in sheet.rows if tuple(found) == labels]
    return ["" if cell is None else cell.text for cell in cells]


@pytest.mark.parametrize("table", [TABLE_1, TABLE_2], ids=lambda t: t.title[:7])
def test_the_papers_averages_are_those_of_its_rows(table):
    for key, average in table.rows[AVERAGE].items():
        if (table, key) == (TABLE_2, ("distance", "dvp")):
            continue  # 0.1760 in the paper, where its rows give 0.1998
        rows = [row[key] for name, row in table.rows.items() if name not in (DIRECT, AVERAGE) and key in row]
        assert fmean(rows) == pytest.approx(average, abs=0.6e-4 if key[0] == "e_warp" else 1e-3), key


def test_the_papers_tables_agree_with_each_other():
    for domain, table in (("out", TABLE_1), ("in", TABLE_2)):
        for metric in ("e_warp", "distance"):
            assert TABLE_3["direct"][domain, metric] == table.rows[DIRECT][metric, DIRECT]
            assert TABLE_3["both"][domain, metric] == table.rows[AVERAGE][metric, "ours"]


def test_table_1_has_the_papers_rows_and_both_figures(table1):
    sheet = report_of(table1, "1").sheets[0]
    assert [labels[0] for labels, _ in sheet.rows] == [
        "Direct editing", "Sketch", "Pixar", "Disney Princess", "Elf", "Zombie", "Average performance"
    ]  # fmt: skip
    assert [titles for _, titles in sheet.groups] == [["DVP", "Ours"]] * len(METRICS)
    # E_warp of DVP and ours, mean of two seeds; distance; second flow; E_long; sharpness; motion.
    assert texts(sheet, "Sketch") == [
        "0.00040 (0.0036)", "0.00030 (0.0085)", "0.1000 (0.2404)", "0.1000 (0.1314)", "0.00120", "0.00090",
        "0.00080", "0.00060", "0.900", "0.900", "1.000", "1.000",
    ]  # fmt: skip
    assert texts(sheet, "Direct editing")[:4] == ["0.00080 (0.0098)", "", "0.1000 (0.0000)", ""]
    assert texts(sheet, "Elf")[:2] == ["- (0.0042)", "- (0.0108)"]
    # Over edits, whatever number of seeds they have.
    assert texts(sheet, "Average performance")[1] == "0.00045 (0.0076)"


def test_e_warp_never_stands_alone(table1):
    for name, make in FORMATS.items():
        words = make(report_of(table1, "1"))
        for beside in ("E_long" if name == "md" else "e", "sharpness", "motion", "distance", "farneback"):
            assert beside in words, (name, beside)
        for control in ("smoothed", "warped"):
            assert control in words, (name, control)


def test_all_methods_with_their_change_against_the_direct_edit(table1):
    sheet = report_of(table1, "1").sheets[1]
    methods = [labels[1] for labels, _ in sheet.rows if labels[0] == "Sketch"]
    assert methods == [
        "Direct editing", "control: codes smoothed over time", "control: flow-warped mean of 3 frames", "DVP",
        "recipe=paper", "Ours, phase 1 alone", "Ours",
    ]  # fmt: skip
    assert texts(sheet, "Sketch", "Ours")[0] == "0.00030 (-62 %)"
    assert texts(sheet, "Average performance", "DVP")[0] == "0.00025 (-69 %)"
    assert texts(sheet, "Pixar", "Direct editing")[0] == "0.00080"


def test_several_clips_have_an_interval(tmp_path):
    for clip, e_warp in (("a.mp4", 2e-4), ("b.mp4", 4e-4), ("c.mp4", 6e-4)):
        write_run(tmp_path, "surprised", {"phase2": e_warp}, clip=clip)
    report = report_of(tmp_path, "2")
    ours = texts(report.sheets[0], "surprised")[2]
    assert ours == "0.00040 [0.00020, 0.00060] (0.0028)"
    assert any("bootstrap" in note for note in report.notes)
    assert any(note.count(".mp4") == 3 and "3 clips" in note for note in report.notes)


def test_edits_the_paper_has_not_stand_before_the_average(tmp_path):
    for edit in ("happy", "surprised"):
        write_run(tmp_path, edit, {"phase2": 4e-4})
    rows = [labels[0] for labels, _ in report_of(tmp_path, "2").sheets[0].rows]
    assert rows[-3:] == ["surprised", "happy", "Average performance"]


def table3(folder: Path, edits: Sequence[str] = ("surprised", "nada_sketch")) -> Path:
    for edit in edits:
        write_run(folder, edit, {}, "direct")
        write_run(folder, edit, {"phase1": 6e-4}, "latent")
        write_run(folder, edit, {"phase2": 3e-4}, "generator")
        write_run(folder, edit, {"phase1": 6e-4, "phase2": 2e-4}, "both")
    return folder


def test_table_3_tells_the_phases_apart(tmp_path):
    main_sheet, methods = report_of(table3(tmp_path), "3").sheets
    for marks, ours, inside, outside in (
        (("-", "-"), "0.00080", "0.0076", "0.0098"),
        (("✓", "-"), "0.00060", "0.0064", "0.0094"),
        (("-", "✓"), "0.00030", "0.0027", "0.0057"),
        (("✓", "✓"), "0.00020", "0.0031", "0.0076"),
    ):
        found = texts(main_sheet, *marks)
        assert found[0] == f"{ours} ({inside})" and found[len(METRICS)] == f"{ours} ({outside})"
    assert texts(methods, "surprised", "Ours, phase 2 alone")[0] == "0.00030 (-62 %)"
    assert texts(methods, "surprised", "Ours")[0] == "0.00020 (-75 %)"


def test_fig6_points_to_the_slices(tmp_path):
    write_run(tmp_path, "surprised", {"phase1": 6e-4, "wplus": 7e-4}, "latent")
    report = report_of(tmp_path, "fig6")
    assert len(report.sheets) == 1
    assert texts(report.sheets[0], "surprised", "codes one by one")[0] == "0.00070 (-12 %)"
    assert any(note.endswith("slices.png") for note in report.notes)


def test_where_it_comes_from(table1):
    notes = "\n".join(report_of(table1, "1").notes)
    for part in (
        "python train.py -m experiment=table1 seed=0,1`",
        "seeds 0, 1",
        "a.mp4 (3 frames)",
        "CC BY-NC-SA 4.0",
        "second flow farneback",
        "Linux-6, x86_64, 2 cores",
        "torch 2.15",
        "2026-11-22",
        "1024 px",
    ):
        assert part in notes, part


def test_csv_holds_every_figure_in_full(table1):
    words = FORMATS["csv"](report_of(table1, "1"))
    rows = list(csv.DictReader(io.StringIO("".join(row for row in words.splitlines(True) if row[0] != "#"))))
    [ours] = [
        r for r in rows
        if (r["sheet"][:7], r["row"], r["method"], r["metric"], r["flow"])
        == ("Table 1", "nada_sketch", "ours", "e_warp", "main")
    ]  # fmt: skip
    assert float(ours["value"]) == pytest.approx(3e-4) and float(ours["paper"]) == 0.0085
    assert ours["clips"] == "1" and ours["low"] == ""


def test_latex_has_as_many_cells_in_every_row(table1):
    words = FORMATS["latex"](report_of(table1, "1"))
    first = words.split(r"\begin{tabular}")[1].split(r"\end{tabular}")[0]
    rows = [line for line in first.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in rows} == {2 * len(METRICS)}
    assert "$E_{warp}$" in words and "%)" not in words.replace(r"\%", "").split(r"\begin{table}", 1)[1]


def test_the_command_writes_all_formats(table1, capsys):
    main(["paper", str(table1), "--table", "1", "--out", str(table1 / "results")])
    assert {p.name for p in (table1 / "results").iterdir()} == {"table1.md", "table1.tex", "table1.csv"}
    capsys.readouterr()
    main(["paper", str(table1), "--table", "1", "--format", "md"])
    assert capsys.readouterr().out == (table1 / "results" / "table1.md").read_text()


def test_a_sweep_without_such_edits_is_one_clear_error(table1, tmp_path, capsys):
    with pytest.raises(InputError, match=r"holds no in-domain editing.*experiment=table2"):
        report_of(table1, "2")
    with pytest.raises(SystemExit) as ended:
        main(["paper", str(tmp_path / "nothing"), "--table", "1"])
    assert ended.value.code == 1 and capsys.readouterr().err.startswith("error: sweep: no folder")
    with pytest.raises(SystemExit):
        main(["paper", str(table1), "--table", "4"])
    assert "invalid choice" in capsys.readouterr().err
