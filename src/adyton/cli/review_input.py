"""What review commands take in: workbooks, with what could not be used of them told to the person, and estimators."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from adyton.review.comparison.plan import load_once
from adyton.review.estimators import Estimators, find_estimators
from adyton.review.tables import Workbook

_FAULTS_SHOWN = 10


def load_workbook(path: Path | None) -> Workbook:
    """The workbook at `path`, or the shipped one; rows left out are told on stderr."""
    workbook = load_once(path)
    if workbook.faults:
        were = "row was" if workbook.n_left_out == 1 else "rows were"
        click.echo(f"warning: {workbook.n_left_out} {were} left out", err=True)
        for fault in workbook.faults[:_FAULTS_SHOWN]:
            click.echo(f"  {fault}", err=True)
    return workbook


def load_estimators(name: str) -> Estimators:
    """The estimator set of this name; a module may lie in the working folder."""
    see_working_folder(name)
    return find_estimators(name)


def see_working_folder(name: str) -> None:
    """Let `module:Class` name a module in the working folder."""
    here = str(Path.cwd())
    if ":" in name and here not in sys.path:
        sys.path.insert(0, here)
