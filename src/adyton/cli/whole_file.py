"""A file that a command writes is there whole or as it was before."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole_text_file(path: Path) -> Iterator[TextIO]:
    """A text file to write that becomes `path` when the block ends without an error; newlines as they are written.

    What is no ordinary file, such as /dev/stdout, is written straight through.   Raises OSError.
    """
    if path.exists() and not path.is_file():
        with path.open("w", newline="", encoding="utf-8") as out:
            yield out
        return
    target = path.resolve()  # a link stays one
    earlier = target.stat().st_mode & 0o777 if target.exists() else None
    partial = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if earlier is None else earlier)
    try:
        with os.fdopen(handle, "w", newline="", encoding="utf-8") as out:
            yield out
        if earlier is not None:  # whatever the umask is now
            partial.chmod(earlier)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
