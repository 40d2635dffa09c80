"""Workbooks written back under the source's headings, so that what was generated can be read like any other."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from adyton.review.tables import AdTable, FloatArray, ModeratorTable, Workbook
from adyton.review.workbook import AD_HEADINGS, MODERATOR_HEADINGS


def write_xlsx(workbook: Workbook, path: Path) -> None:
    """One `.xlsx` file with the sheets `ads` and `moderators`."""
    book = openpyxl.Workbook(write_only=True)
    for title, columns in (("ads", ad_columns(workbook.ads)), ("moderators", moderator_columns(workbook.moderators))):
        sheet = book.create_sheet(title)
        sheet.append(list(columns))
        for row in zip(*columns.values(), strict=True):
            sheet.append(row)
    book.save(path)


def write_parquet(workbook: Workbook, folder: Path) -> None:
    """`ads.parquet` and `moderators.parquet` in `folder`; markets as text, as in a spreadsheet cell."""
    for stem, columns in (("ads", ad_columns(workbook.ads)), ("moderators", moderator_columns(workbook.moderators))):
        pq.write_table(
            pa.table({k: pa.array(v) for k, v in columns.items()}), folder / f"{stem}.parquet", compression="zstd"
        )


def ad_columns(ads: AdTable) -> dict[str, list[object]]:
    """Cells of the ads by heading: the source's headings first, then other properties; None for a missing number."""
    n = len(ads)
    known: dict[str, list[object]] = {
        "p_date": ["2023-07-01"] * n,
        "ad_id": list(ads.ad_id),
        "delivery_country": list(ads.country),
        "queue_market": list(ads.country),
        "punish_num": _numbers(ads.punish_num),
        "avg_ad_revenue": _numbers(ads.revenue),
        "start_time": [None if math.isnan(h) else f"2023-07-01 {int(h):02d}:00" for h in ads.start_hour],
        "baseline_st": _numbers(ads.baseline_st),
        "product_line": list(ads.product_line),
    }
    known.update(
        {heading: [None if cell == "" else cell for cell in column] for heading, column in ads.properties.items()}
    )
    order = [h for h in AD_HEADINGS if h in known] + [h for h in known if h not in AD_HEADINGS]
    return {heading: known[heading] for heading in order}


def moderator_columns(moderators: ModeratorTable) -> dict[str, list[object]]:
    """Cells of the moderators by heading; `market` is a list written as text."""
    known: dict[str, list[object]] = dict(
        zip(
            MODERATOR_HEADINGS,
            (
                list(moderators.moderator_id),
                [str(list(markets)) for markets in moderators.markets],
                _numbers(moderators.productivity),
                _numbers(moderators.utilisation),
                _numbers(moderators.handling_time),
                _numbers(moderators.accuracy),
            ),
            strict=True,
        )
    )
    return known | {heading: list(column) for heading, column in moderators.properties.items()}


def _numbers(column: FloatArray) -> list[object]:
    return [None if np.isnan(number) else float(number) for number in column]
