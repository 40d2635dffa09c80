"""The output folder is whole or absent, and nothing that is not ours is ever replaced."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from adyton.flywheel.errors import DemoFolderError
from adyton.flywheel.folder import MARKER, check_keep, copy_to, whole_folder


def write_run(target: Path, text: str) -> None:
    with whole_folder(target) as folder:
        (folder / MARKER).write_text('{"review": {}, "cleanroom": {}, "auction": {}, "egress": {}}')
        (folder / "text").write_text(text)


def test_a_finished_block_becomes_the_folder_and_a_second_run_replaces_it(tmp_path: Path) -> None:
    write_run(tmp_path / "out", "first")
    write_run(tmp_path / "out", "second")

    assert (tmp_path / "out" / "text").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_the_earlier_folder_and_nothing_else(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    write_run(tmp_path / "out", "first")
    with pytest.raises(interruption), whole_folder(tmp_path / "out") as folder:
        (folder / "half").write_text("x")
        raise interruption

    assert (tmp_path / "out" / "text").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_is_not_ours_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "letter.txt").write_text("keep me")
    with pytest.raises(DemoFolderError, match="not the output of an earlier run"):
        write_run(tmp_path / "documents", "x")

    assert (tmp_path / "documents" / "letter.txt").read_text() == "keep me"


def test_a_file_in_the_way_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DemoFolderError, match="cannot write here: "):
        write_run(tmp_path / "file" / "out", "x")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_fills_up_on_the_way_is_one_clear_error(tmp_path: Path, number: int) -> None:
    with pytest.raises(DemoFolderError, match="cannot write here"), whole_folder(tmp_path / "out"):
        raise OSError(number, "disk trouble")

    assert list(tmp_path.iterdir()) == []


def test_a_nearly_full_disk_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 10 * 2**20

    monkeypatch.setattr("adyton.flywheel.folder.shutil.disk_usage", lambda _: Usage)
    with pytest.raises(DemoFolderError, match="only 10 MB are free"):
        write_run(tmp_path / "out", "x")


@pytest.mark.parametrize("summary", ['{"auc": 0.7}', "[]", "not JSON", '{"review": 1, "auction": 2}', "[" * 100_000])
def test_a_folder_with_another_programs_summary_is_never_replaced(tmp_path: Path, summary: str) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / MARKER).write_text(summary)
    (tmp_path / "results" / "thesis.txt").write_text("keep me")
    with pytest.raises(DemoFolderError, match="not the output of an earlier run"):
        write_run(tmp_path / "results", "x")

    assert (tmp_path / "results" / "thesis.txt").read_text() == "keep me"


@pytest.mark.parametrize("keep", ["out", "out/kept", "file", "file/kept"])
def test_a_folder_that_cannot_keep_is_refused_before_any_work(tmp_path: Path, keep: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DemoFolderError):
        check_keep(tmp_path / keep, tmp_path / "out")

    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_kept_is_told_and_not_raised(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "log").write_text("x")
    (tmp_path / "file").write_text("")

    failure = copy_to(tmp_path / "file", tmp_path / "work")

    assert failure is not None
    assert failure.where == str(tmp_path / "file")
    assert copy_to(tmp_path / "kept", tmp_path / "work") is None
    assert (tmp_path / "kept" / "log").read_text() == "x"
