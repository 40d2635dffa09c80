"""An output folder that is there whole or not at all.

Everything is written into a hidden sibling; the sibling takes the folder's place by two renames at the very end. An
interrupted run leaves the earlier folder untouched and its own sibling removed. Only a folder that holds our marker
file, with our keys in it, is ever replaced, so that `--out ~/documents` can destroy nothing.
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adyton.flywheel.errors import DemoFolderError

MARKER = "summary.json"
_PARTS = frozenset({"review", "cleanroom", "auction", "egress"})
"""Keys of the marker file that no other program's is likely to have, see `summary.DemoSummary`."""
_MIN_FREE_BYTES = 300 * 1024 * 1024


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write into that becomes `target` when the block ends without an error.

    Raises DemoFolderError if `target` exists and is not an earlier output, or if its parent cannot be written or has
    less than 300 MB free.
    """
    target = target.absolute()
    _refuse_foreign(target)
    partial: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-partial-", dir=target.parent))
    except OSError as error:
        raise _unusable(target.parent, error) from error
    try:
        _refuse_full(target.parent)
        yield partial
        _swap(partial, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EPERM):
            raise _unusable(target.parent, error) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_ours(target: Path) -> bool:
    """Whether an earlier demo wrote this folder; other programs call a file summary.json too."""
    try:
        summary = json.loads((target / MARKER).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(summary, dict) and summary.keys() >= _PARTS


def _refuse_foreign(target: Path) -> None:
    if target.exists() and not _is_ours(target):
        raise DemoFolderError(
            "exists and is not the output of an earlier run",
            where=str(target),
            hint="choose another folder with --out",
        )


def _refuse_full(parent: Path, hint: str = "free some space or choose another folder with --out") -> None:
    free = shutil.disk_usage(parent).free
    if free < _MIN_FREE_BYTES:
        raise DemoFolderError(
            f"only {free // 2**20} MB are free, {_MIN_FREE_BYTES // 2**20} MB are needed",
            where=str(parent),
            hint=hint,
        )


def work_folder() -> Path:
    """A new temporary folder for what is deleted at the end. Raises DemoFolderError where there is no room for it."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="adyton-demo-"))
    except OSError as error:
        raise DemoFolderError(
            "there is no folder for temporary files", hint="set TMPDIR to one that can be written"
        ) from error
    try:
        _refuse_full(folder.parent, "free some space or set TMPDIR to another folder")
    except DemoFolderError:
        folder.rmdir()
        raise
    return folder


def check_keep(keep: Path, out: Path) -> None:
    """Nothing, if files can be copied into `keep` in the end; it is made.   Raises DemoFolderError."""
    if keep.resolve().is_relative_to(out.resolve()):
        raise DemoFolderError("lies in the folder of --out, which is replaced", where=str(keep), hint="keep it outside")
    try:
        keep.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=keep):
            pass
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise DemoFolderError(
            f"cannot write here: {reason}", where=str(keep), hint="choose another folder with --keep"
        ) from error


def copy_to(keep: Path, work: Path) -> DemoFolderError | None:
    """Copies what is in `work`; gives the error rather than raising it, so that the output does not fall with it."""
    try:
        shutil.copytree(work, keep, dirs_exist_ok=True)
    except OSError as error:  # shutil.Error is one
        failure = DemoFolderError("not everything could be copied here; the output of --out is whole", where=str(keep))
        failure.__cause__ = error
        return failure
    return None


def _unusable(parent: Path, error: OSError) -> DemoFolderError:
    reason = (error.strerror or type(error).__name__).lower()
    return DemoFolderError(
        f"cannot write here: {reason}", where=str(parent), hint="choose a folder that can be written with --out"
    )


def _swap(partial: Path, target: Path) -> None:
    partial.chmod(0o755)
    if not target.exists():
        partial.rename(target)
        return
    _refuse_foreign(target)
    retired = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent)) / "old"
    target.rename(retired)
    try:
        partial.rename(target)
    except OSError:
        retired.rename(target)
        raise
    finally:
        shutil.rmtree(retired.parent, ignore_errors=True)
