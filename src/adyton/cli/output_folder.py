"""Where an output goes is looked at before anything is paid, trained or measured."""

from __future__ import annotations

from pathlib import Path

from adyton.kernel.errors import BadInputError


def check_folder(*paths: Path | None) -> None:
    """Check that a file can go where each of `paths` says; None is passed over.   Raises BadInputError."""
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise BadInputError("the folder of this file does not exist", where=str(path))
