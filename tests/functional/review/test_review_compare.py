"""`adyton review compare` as a person or a script meets it, with real processes."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from adyton.cli import review_compare
from adyton.cli.review import review
from adyton.kernel.chance import stream
from adyton.kernel.errors import AdytonError, UnavailableError
from adyton.review.arrivals import Pattern
from adyton.review.comparison.plan import Plan, Row
from adyton.review.comparison.workers import run_plan
from adyton.review.day import DayConfig
from adyton.review.generator import generate_workbook
from adyton.review.writer import write_xlsx

HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.fixture(scope="module")
def workbook_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compare") / "w.xlsx"
    write_xlsx(generate_workbook(1_500, 120, stream(31, "compare")), path)
    return path


@pytest.fixture(scope="module")
def plan(workbook_path: Path) -> Plan:
    return Plan(
        allocators=("greedy_farseeing", "greedy", "fifo"),
        patterns=(Pattern.EVEN, Pattern.UNEVEN),
        volumes=(0.1,),
        n_replications=2,
        config=DayConfig(n_moderators=30),
        bound_steps=10,
        workbook=workbook_path,
    )


def without_time(rows: tuple[Row, ...]) -> list[Row]:
    return [replace(row, simulated_seconds=0.0) for row in rows]


@pytest.mark.slow
def test_processes_give_the_rows_of_one_process_in_order(plan: Plan) -> None:
    done: list[int] = []
    alone = run_plan(plan, n_workers=1)
    together = run_plan(plan, n_workers=2, on_done=lambda: done.append(1))

    assert without_time(together) == without_time(alone)
    assert len(done) == len(plan.replications()) == 4
    assert [row.allocator for row in alone[:3]] == list(plan.allocators)


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'adyton[dev]' brings it, and CI has it")
def test_ray_gives_the_same_rows(plan: Plan) -> None:
    assert without_time(run_plan(plan, engine="ray", n_workers=1)) == without_time(run_plan(plan, n_workers=1))


def test_without_ray_the_error_names_the_extra(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UnavailableError) as caught:
        run_plan(plan, engine="ray")
    assert "adyton[ray]" in str(caught.value.hint)


def compare(workbook: Path, *arguments: str) -> str:
    fixed = ["compare", "--input", str(workbook), "--moderators", "30", "--bound-steps", "10", "--workers", "1"]
    result = CliRunner().invoke(review, [*fixed, *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_json_pairs_days_and_states_intervals(workbook_path: Path, tmp_path: Path) -> None:
    arguments = ["--allocators", "greedy_farseeing,fifo", "--volumes", "0.1,0.2", "--replications", "3"]
    arguments += ["--patterns", "even", "--csv", str(tmp_path / "rows.csv"), "--figures", str(tmp_path / "figures")]
    found = json.loads(compare(workbook_path, *arguments, "--json"))

    assert len(found["results"]) == 4
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert len(rows) == 2 * 2 * 3
    for line in found["results"]:
        own = [r for r in rows if r["allocator"] == line["allocator"] and float(r["volume"]) == line["volume"]]
        mean = sum(float(row["a2"]) for row in own) / 3
        assert line["measures"]["a2"]["mean"] == pytest.approx(mean)
        assert line["measures"]["a2"]["half_width"] > 0
        assert line["bound_a2"] <= mean
        if line["allocator"] == "greedy_farseeing":
            assert line["difference_a2"] == {"mean": 0.0, "half_width": 0.0}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "loss_by_allocator.png",
        "queue_over_the_day.png",
        "utilisation_over_the_day.png",
        "loss_by_volume.png",
    }


def test_the_table_shows_every_allocator_by_scenario(workbook_path: Path) -> None:
    arguments = ["--allocators", "greedy,greedy_farseeing", "--volumes", "0.1", "--patterns", "even,peak"]
    out = compare(workbook_path, *arguments, "--replications", "1")

    assert out.count("greedy_farseeing ") >= 2
    assert "peak, volume 0.1, 1 days" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--allocators", "magic"],
        ["--allocators", "greedy"],
        ["--allocators", "greedy_farseeing,greedy_farseeing"],
        ["--patterns", "sideways"],
        ["--volumes", "0"],
        ["--volumes", "much"],
    ],
)
def test_a_comparison_that_cannot_be_is_one_error(workbook_path: Path, arguments: list[str]) -> None:
    result = CliRunner().invoke(review, ["compare", "--input", str(workbook_path), "--replications", "1", *arguments])

    assert isinstance(result.exception, AdytonError)
    assert result.exception.exit_code == 10


def test_learn_prints_a_line_for_each_day_and_json_adds_up(workbook_path: Path, tmp_path: Path) -> None:
    arguments = [
        "learn",
        "--input",
        str(workbook_path),
        "--moderators",
        "30",
        "-v",
        "0.1",
        "--days",
        "2",
        "-a",
        "greedy",
    ]
    table = CliRunner().invoke(review, arguments, catch_exceptions=False).stdout
    drawn = [*arguments, "--json", "--figure", str(tmp_path / "learning.png")]
    found = json.loads(CliRunner().invoke(review, drawn, catch_exceptions=False).stdout)

    assert (tmp_path / "learning.png").read_bytes().startswith(b"\x89PNG")
    assert len(table.splitlines()) == 1 + 2 + 1
    assert found["total_regret"] == pytest.approx(sum(day["a2"] - day["a2_known"] for day in found["days"]))


SHORT = ["--replications", "1", "--volumes", "0.05", "--allocators", "greedy,fifo", "--reference", "greedy"]


def test_a_folder_that_is_not_there_is_told_before_any_day(
    workbook_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review_compare, "run_plan", lambda *_, **__: pytest.fail("days were simulated"))
    call = ["compare", "--input", str(workbook_path), *SHORT, "--csv", str(tmp_path / "no" / "rows.csv")]
    result = CliRunner().invoke(review, call)

    assert isinstance(result.exception, AdytonError)
    assert "does not exist" in str(result.exception)


def test_figures_that_cannot_be_written_do_not_take_the_results_with_them(workbook_path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    call = ["compare", "--input", str(workbook_path), "--moderators", "20", "--workers", "1", "--json"]
    result = CliRunner().invoke(review, [*call, *SHORT, "--figures", str(tmp_path / "file")])

    assert isinstance(result.exception, UnavailableError)
    assert {line["allocator"] for line in json.loads(result.stdout)["results"]} == {"greedy", "fifo"}


def test_a_worker_that_is_killed_is_one_error_about_this_machine(
    workbook_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "killed.py").write_text(
        "import multiprocessing, os\n"
        "from adyton.review.allocators.fifo import Fifo\n"
        "class Killed(Fifo):\n"
        "    def allocate(self, day):\n"
        "        assert multiprocessing.parent_process() is not None\n"
        "        os._exit(9)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    call = ["compare", "--input", str(workbook_path), "--allocators", "killed:Killed", "--reference", "killed:Killed"]
    scenario = ["--moderators", "20", "--volumes", "0.05", "--replications", "2", "--workers", "2"]
    result = CliRunner().invoke(review, [*call, *scenario])

    assert isinstance(result.exception, UnavailableError)
    assert "memory" in str(result.exception)
