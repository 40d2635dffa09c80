"""`adyton review simulate` as a person or a script meets it."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from adyton.cli.review import review
from adyton.kernel.chance import stream
from adyton.kernel.errors import AdytonError, UnavailableError
from adyton.review.day import Day
from adyton.review.generator import generate_workbook
from adyton.review.writer import ad_columns, moderator_columns, write_xlsx


@pytest.fixture(scope="module")
def workbook_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("review") / "w.xlsx"
    write_xlsx(generate_workbook(2_000, 150, stream(21, "cli")), path)
    return path


def simulate(workbook: Path, out: Path, *arguments: str) -> dict[str, object]:
    fixed = [
        "simulate",
        "--input",
        str(workbook),
        "--moderators",
        "30",
        "--bound-steps",
        "30",
        "-f",
        str(out),
        "--json",
    ]
    result = CliRunner().invoke(review, [*fixed, *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_json_holds_exactly_the_documented_object(workbook_path: Path, tmp_path: Path) -> None:
    found = simulate(workbook_path, tmp_path / "o.csv", "-v", "0.1", "-a", "priced_queues", "--seed", "4")

    assert set(found) == {
        "allocator",
        "seed",
        "loss",
        "bound",
        "gap_percent",
        "finished_fraction",
        "utilisation",
        "wait_minutes",
        "simulated_seconds",
    }
    assert (found["allocator"], found["seed"]) == ("priced_queues", 4)
    assert set(found["loss"]) == {"seed_loss", "a1", "a2"}  # type: ignore[arg-type]
    assert set(found["wait_minutes"]) == {"p50", "p95"}  # type: ignore[arg-type]
    assert found["bound"]["a2"] <= found["loss"]["a2"]  # type: ignore[index]


def test_one_seed_prints_the_same_numbers_twice(workbook_path: Path, tmp_path: Path) -> None:
    first, second = (simulate(workbook_path, tmp_path / "o.csv", "-v", "0.1", "--seed", "9") for _ in range(2))

    assert {k: v for k, v in first.items() if k != "simulated_seconds"} == {
        k: v for k, v in second.items() if k != "simulated_seconds"
    }


@pytest.mark.parametrize("pattern", ["even", "uneven", "peak"])
@pytest.mark.parametrize("source", ["raw", "synthetic"])
def test_the_flags_of_the_source_document_work(workbook_path: Path, tmp_path: Path, pattern: str, source: str) -> None:
    found = simulate(workbook_path, tmp_path / "o.csv", "-d", pattern, "-s", source, "-v", "0.1", "-p", "2")

    assert found["allocator"] == "greedy"


def test_three_times_the_volume_runs_on_a_workbook_with_fewer_ads(workbook_path: Path, tmp_path: Path) -> None:
    simulate(workbook_path, tmp_path / "o.csv", "-v", "3", "-a", "greedy")

    with (tmp_path / "o.csv").open() as stream_in:
        rows = list(csv.DictReader(stream_in))
    assert len(rows) > 40_000
    assert len({row["ad_id"] for row in rows}) == len(rows)


def test_compat_prints_the_sources_loss_and_its_faults(workbook_path: Path, tmp_path: Path) -> None:
    found = simulate(workbook_path, tmp_path / "o.csv", "-v", "0.13", "--seed", "3", "-a", "random", "--compat", "seed")

    assert (found["compat"], found["allocator"]) == ("seed", "random")
    faults: dict[str, int] = found["faults"]  # type: ignore[assignment]
    assert faults["distinct_ads"] < faults["arrivals"]
    assert found["loss"]["seed_loss"] > 0  # type: ignore[index]


def test_arrivals_come_from_a_file(workbook_path: Path, tmp_path: Path) -> None:
    stream_file = tmp_path / "arrivals.csv"
    stream_file.write_text("minute,ads\n700,3\n5,2\n700,1\n")
    simulate(workbook_path, tmp_path / "o.csv", "--arrivals", str(stream_file))

    with (tmp_path / "o.csv").open() as rows:
        assert [int(row["arrival_minute"]) for row in csv.DictReader(rows)] == [5, 5, 700, 700, 700, 700]


def test_verdicts_and_chance_are_options(workbook_path: Path, tmp_path: Path) -> None:
    chance = ["--handling-sigma", "0.4", "--break-minutes", "30", "--no-show", "0.1", "--shifts-by-time-zone"]
    simulate(workbook_path, tmp_path / "o.csv", "-v", "0.1", "-a", "fifo", "--verdicts", *chance)

    with (tmp_path / "o.csv").open() as rows:
        decided = [row for row in csv.DictReader(rows) if row["done_minute"] and int(row["done_minute"]) <= 1440]
    assert {row["verdict"] for row in decided} == {"accepted", "rejected"}
    assert {row["is_harmful"] for row in decided} == {"0", "1"}


def test_people_see_the_sla_and_the_verdicts(workbook_path: Path, tmp_path: Path) -> None:
    arguments = ["simulate", "--input", str(workbook_path), "--moderators", "30", "--bound-steps", "1", "-v", "0.1"]
    arguments += ["-f", str(tmp_path / "o.csv"), "--verdicts"]
    strict, loose = (
        CliRunner().invoke(review, [*arguments, "--sla-minutes", minutes], catch_exceptions=False).stdout
        for minutes in ("1", "1440")
    )

    misses = [int(re.search(r"SLA +(\d+) of", out).group(1)) for out in (strict, loose)]  # type: ignore[union-attr]
    assert misses[0] > misses[1] > 0
    assert "harmful ads passed" in strict


def test_a_bound_of_zero_is_no_number_in_json(workbook_path: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("minute\n1439\n")
    found = simulate(workbook_path, tmp_path / "o.csv", "--arrivals", str(tmp_path / "a.csv"))

    for name, gap in found["gap_percent"].items():  # type: ignore[attr-defined]
        assert gap is None or 0 <= gap < 1e6, name


def test_an_estimator_class_may_lie_in_the_working_folder(
    workbook_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "doubled_estimators.py").write_text(
        "from adyton.review.estimators import SourceEstimators\n"
        "class Doubled(SourceEstimators):\n"
        "    def revenue(self, ads):\n"
        "        return 2 * ads.revenue\n"
    )
    plain = simulate(workbook_path, tmp_path / "o.csv", "-v", "0.1")
    doubled = simulate(workbook_path, tmp_path / "o.csv", "-v", "0.1", "--estimators", "doubled_estimators:Doubled")

    assert doubled["loss"]["a2"] == pytest.approx(2 * plain["loss"]["a2"])  # type: ignore[index]


OWN_ALLOCATOR = """
from adyton.review.allocators.contract import Allocator
from adyton.review.engine.rounds import Rounds


class FirstFits(Allocator):
    name = "first_fits"
    summary = "each open ad to the first idle moderator who has time for it"

    def allocate(self, day):
        rounds = Rounds(day.arrays)
        for minute in rounds:
            for ad in rounds.open_ads:
                for moderator in (rounds.starts == minute).nonzero()[0]:
                    ends = minute + rounds.minutes(moderator[None], ad[None])[0, 0]
                    may = rounds.starts[moderator] == minute and rounds.is_member[moderator, day.arrays.market[ad]]
                    if may and ends <= day.arrays.shift_end[moderator]:
                        rounds.commit(minute, int(ad), int(moderator))
                        break
        return rounds.schedule


class NoAllocator:
    pass
"""


def test_an_allocator_class_may_lie_in_the_working_folder(
    workbook_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_allocators.py").write_text(OWN_ALLOCATOR)

    found = simulate(workbook_path, tmp_path / "o.csv", "-v", "0.02", "-a", "own_allocators:FirstFits")

    assert found["allocator"] == "own_allocators:FirstFits"
    assert found["finished_fraction"] > 0  # type: ignore[operator]
    assert found["bound"]["a2"] <= found["loss"]["a2"]  # type: ignore[index]
    for wrong in ("own_allocators:Missing", "own_allocators:NoAllocator", "no_module_here:FirstFits"):
        arguments = ["simulate", "--input", str(workbook_path), "--moderators", "30", "-v", "0.02", "-a", wrong]
        error = CliRunner().invoke(review, arguments).exception
        assert isinstance(error, AdytonError)
        assert (error.exit_code, wrong in str(error)) == (10, True)


def test_rows_left_out_are_counted_and_named_on_stderr(tmp_path: Path) -> None:
    workbook = generate_workbook(300, 80, stream(3, "bad rows"))
    for stem, columns in (("ads", ad_columns(workbook.ads)), ("moderators", moderator_columns(workbook.moderators))):
        with (tmp_path / f"{stem}.csv").open("w", newline="") as out:
            csv.writer(out).writerows([list(columns), *zip(*columns.values(), strict=True)])
    lines = (tmp_path / "ads.csv").read_text().splitlines()
    lines[4] = lines[4].replace(lines[4].split(",")[2], "")
    (tmp_path / "ads.csv").write_text("\n".join(lines))
    common = ["--input", str(tmp_path), "--moderators", "30", "--bound-steps", "1"]

    for command in (
        ["simulate", *common, "-v", "0.01", "-f", str(tmp_path / "o.csv")],
        ["compare", *common, "--volumes", "0.01", "--allocators", "greedy_farseeing", "--replications", "1"],
        ["learn", *common[:4], "-v", "0.01", "--days", "1", "-a", "fifo"],
    ):
        result = CliRunner().invoke(review, command, catch_exceptions=False)
        assert "warning: 1 row was left out" in result.stderr
        assert "ads.csv row 5" in result.stderr


@pytest.mark.parametrize("text", ["ads\n3\n", "minute,ads\n1440,1\n", "minute\nx\n", "minute,ads\n3,-1\n", "minute\n"])
def test_a_bad_stream_is_one_error_that_names_the_file(workbook_path: Path, tmp_path: Path, text: str) -> None:
    stream_file = tmp_path / "arrivals.csv"
    stream_file.write_text(text)
    arguments = ["simulate", "--input", str(workbook_path), "--moderators", "30", "--arrivals", str(stream_file)]

    result = CliRunner().invoke(review, arguments)

    assert isinstance(result.exception, AdytonError)
    assert result.exception.exit_code == 10
    assert "arrivals.csv" in str(result.exception.where)


def test_the_default_file_lists_the_parameters(
    workbook_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["simulate", "--input", str(workbook_path), "--moderators", "30", "--bound-steps", "1", "-v", "0.1"]
    CliRunner().invoke(review, arguments, catch_exceptions=False)

    assert [path.name for path in tmp_path.iterdir()] == ["review_even_v0.1_p2_raw_greedy_seed0.csv"]


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (["-a", "magic"], 10),
        (["-v", "0"], 10),
        (["-v", "nan"], 10),
        (["-p", "-1"], 10),
        (["-p", "nan"], 10),
        (["--compat", "seed", "-a", "priced_queues"], 10),
        (["--compat", "seed", "-v", "3"], 10),
        (["--moderators", "9999"], 10),
        (["--estimators", "nowhere:Nothing"], 10),
        (["-f", "/nonexistent/folder/x.csv"], 13),
    ],
)
def test_what_cannot_be_used_is_one_error_with_its_code(
    workbook_path: Path, arguments: list[str], exit_code: int, tmp_path: Path
) -> None:
    base = ["simulate", "--input", str(workbook_path), "--moderators", "30", "--bound-steps", "1", "-v", "0.1"]
    out = [] if "-f" in arguments else ["-f", str(tmp_path / "o.csv")]

    result = CliRunner().invoke(review, [*base, *out, *arguments])

    assert isinstance(result.exception, AdytonError)
    assert result.exception.exit_code == exit_code


def test_a_result_that_cannot_be_written_whole_leaves_the_earlier_one(
    workbook_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o.csv"
    out.write_text("earlier")

    def fill_up(day: Day, ad: int) -> str:
        if ad == 20:
            raise OSError(28, "No space left on device")
        return "ad"

    monkeypatch.setattr(Day, "ad_id", fill_up)
    call = ["simulate", "--input", str(workbook_path), "--moderators", "30", "-v", "0.1", "--bound-steps", "3"]
    result = CliRunner().invoke(review, [*call, "-f", str(out)])

    assert isinstance(result.exception, UnavailableError)
    assert out.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [out]


def test_a_written_result_keeps_the_rights_of_the_file_and_a_link_stays_one(
    workbook_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "real.csv").write_text("earlier")
    (tmp_path / "real.csv").chmod(0o640)
    (tmp_path / "link.csv").symlink_to("real.csv")
    simulate(workbook_path, tmp_path / "link.csv", "-v", "0.1")

    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "real.csv").read_text().startswith("ad_id,")
