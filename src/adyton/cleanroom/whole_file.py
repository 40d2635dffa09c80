"""A file that is there whole under its name or not at all: a full disk or a killed process leaves no half of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from adyton.kernel.chance import OsRandom
from adyton.kernel.errors import BadInputError, UnavailableError

_OTHER_NAME = "choose another name"


@contextmanager
def whole_file(path: Path, *, mode: int = 0o666, replace: bool = False) -> Iterator[IO[bytes]]:
    """A file to write; it comes to lie at `path`, on disk, when the block ends well.

    mode: before the umask.   replace: whether it may take the place of another.
    Raises BadInputError if the name is taken and not to be replaced, UnavailableError if it cannot be written.
    """
    # A name of its own, so that two that write the same file do not write into each other's.
    partial = path.with_name(f".{path.name}.{OsRandom().token(6).hex()}.partial")
    if not replace and path.exists():
        raise BadInputError("the file exists", where=path.name, hint=_OTHER_NAME)
    try:
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if replace:
                partial.replace(path)
            else:
                os.link(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except FileExistsError as error:
        raise BadInputError("the file exists", where=path.name, hint=_OTHER_NAME) from error
    except OSError as error:
        raise UnavailableError(f"the file cannot be written ({error.strerror or error})", where=path.name) from error


def write_whole(path: Path, content: bytes, *, mode: int = 0o666, replace: bool = False) -> None:
    """`whole_file` for content that is there already."""
    with whole_file(path, mode=mode, replace=replace) as file:
        file.write(content)
