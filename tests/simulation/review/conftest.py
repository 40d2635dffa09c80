"""A small workbook and a small day, made once."""

from __future__ import annotations

import pytest

from adyton.kernel.chance import stream
from adyton.review.day import Day, DayConfig, draw_day
from adyton.review.generator import generate_workbook
from adyton.review.tables import Workbook


@pytest.fixture(scope="session")
def small_workbook() -> Workbook:
    return generate_workbook(3_000, 200, stream(5, "small workbook"))


@pytest.fixture(scope="session")
def small_day(small_workbook: Workbook) -> Day:
    return draw_day(small_workbook, DayConfig(volume=0.08, n_moderators=40), seed=3)
