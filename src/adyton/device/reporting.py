"""Telling the winner's parties: impressions and events (protected-auction §13)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import Enum

from adyton.device.auction import AdSelectionOutcome, ReportingUrls
from adyton.device.errors import AdTechServerError
from adyton.device.web import Web

REPORT_TIMEOUT_S = 2.0
_MAX_ANSWER_BYTES = 64 * 1024
MAX_EVENT_BYTES = 64 * 1024


class Destination(Enum):
    """Who is told of an event."""

    SELLER = "seller"
    BUYER = "buyer"


@dataclass(frozen=True)
class ReportOutcome:
    """Who was told; `failed` names parties whose server gave no good answer."""

    sent: tuple[Destination, ...]
    failed: tuple[Destination, ...]


async def send_impression(outcome: AdSelectionOutcome, web: Web) -> ReportOutcome:
    """GET the reporting URLs of both parties, two seconds for each at most."""
    urls = {destination: _urls(outcome, destination).reporting_url for destination in Destination}
    return await _send_all(web, {d: url for d, url in urls.items() if url}, None)


async def send_event(
    outcome: AdSelectionOutcome, key: str, data: str, destinations: frozenset[Destination], web: Web
) -> ReportOutcome:
    """POST `data` to the URL that each destination registered for `key`; nothing where none is registered."""
    urls = {destination: _urls(outcome, destination).beacons.get(key, "") for destination in destinations}
    return await _send_all(web, {d: url for d, url in urls.items() if url}, data.encode())


def _urls(outcome: AdSelectionOutcome, destination: Destination) -> ReportingUrls:
    return outcome.seller_urls if destination is Destination.SELLER else outcome.buyer_urls


async def _send_all(web: Web, urls: dict[Destination, str], data: bytes | None) -> ReportOutcome:
    async def send(url: str) -> bool:
        try:
            if data is None:
                await web.get(url, max_bytes=_MAX_ANSWER_BYTES, total_timeout_s=REPORT_TIMEOUT_S)
            else:
                await web.post(url, data, max_bytes=_MAX_ANSWER_BYTES, total_timeout_s=REPORT_TIMEOUT_S)
        except AdTechServerError:
            return False
        return True

    results = await asyncio.gather(*(send(url) for url in urls.values()))
    told = dict(zip(urls, results, strict=True))
    return ReportOutcome(
        tuple(d for d in Destination if told.get(d) is True), tuple(d for d in Destination if told.get(d) is False)
    )
