"""Files that a command reads: bytes, also from standard input, and errors that name the file they are about."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from adyton.kernel.errors import AdytonError


def read_input(path: Path) -> bytes:
    """What is in the file, or on standard input for "-"."""
    return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Errors of the block name the file whose content they are about."""
    try:
        yield
    except AdytonError as error:
        raise error.inside("standard input" if str(path) == "-" else str(path)) from error.__cause__


def refuse_two_from_stdin(*paths: object) -> None:
    """Raise a usage error if more than one of `paths` is "-": the first would leave nothing to the next."""
    if [str(path) for path in paths].count("-") > 1:
        raise click.UsageError("only one of them can come from standard input")
