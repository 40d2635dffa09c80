"""What a device stores about its user, and the encoder configuration that turns it into a model's user fields.

Signal keys (protected-auction §2.3, four bytes): [1, slot, 0, 0] a profile value as text, [2, series, 0, 0] a series of
events of two bytes, [9, 0, 0, 0] a marker that no encoder reads, by which a test can look for leaks.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from adyton.flywheel.errors import StepFailedError
from adyton.flywheel.held_out import EVENT_BITS, HeldOutUser
from adyton.learning.ctr.features import Counter, Statistic
from adyton.learning.schema import Role

OWN_SERIES, PARTNER_SERIES = 0, 1
MAX_EVENTS = 1000
_PROFILE, _EVENTS, _MARKER = 1, 2, 9
_MEASURES = {Statistic.IMPRESSIONS: "count", Statistic.TOTAL: "count", Statistic.RATE: "rate"}


@dataclass(frozen=True)
class SignalPlan:
    """Where each raw user column of the model lives on a device.

    own_columns: the advertiser's profile columns; the position is the slot.   own_counters, partner_counters: what the
    model counts over the advertiser's and the publisher's earlier events; those of users are counted on the device.
    """

    own_columns: tuple[str, ...]
    own_counters: tuple[Counter, ...]
    partner_counters: tuple[Counter, ...]

    def update_json(self, user: HeldOutUser, marker: bytes, *, with_partner: bool) -> bytes:
        """The signal update (protected-auction §2.2) that puts a user's past on a device."""
        put = {_key(_MARKER, 0): _base64(marker)}
        for slot, name in enumerate(self.own_columns):
            if name in user.advertiser_profile:
                put[_key(_PROFILE, slot)] = _base64(user.advertiser_profile[name].encode())
        series = {OWN_SERIES: user.advertiser_events}
        if with_partner:
            series[PARTNER_SERIES] = user.publisher_events
        append = {
            _key(_EVENTS, number): {
                "values": [_base64(bits.to_bytes(2, "little")) for bits in events[-MAX_EVENTS:]],
                "max_signals": MAX_EVENTS,
            }
            for number, events in series.items()
            if events
        }
        return json.dumps({"put": put, "append": append}).encode()

    def encoder_config(self, user_fields: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """CONFIG of `encoder.js` for the user fields of a model's manifest.

        Raises StepFailedError if a field cannot be computed on a device.
        """
        return {"fields": [{**_index_rule(entry), **self._source(str(entry["name"]))} for entry in user_fields]}

    def _source(self, name: str) -> dict[str, Any]:
        if name in self.own_columns:
            return {"slot": self.own_columns.index(name)}
        for series, counters in ((OWN_SERIES, self.own_counters), (PARTNER_SERIES, self.partner_counters)):
            for counter in counters:
                if counter.name == name and counter.role is Role.USER and counter.statistic in _MEASURES:
                    return {
                        "series": series,
                        "bit": None if counter.column is None else EVENT_BITS.index(counter.column),
                        "measure": _MEASURES[counter.statistic],
                        "prior": counter.prior,
                        "strength": counter.strength,
                    }
        raise StepFailedError("a device cannot compute this user field of the model", where=name)


def _index_rule(entry: Mapping[str, Any]) -> dict[str, Any]:
    if "edges" in entry:
        return {"edges": list(entry["edges"])}
    return {"values": {text: index + 1 for index, text in enumerate(entry["values"])}}


def published_script(name: str, config: Mapping[str, Any]) -> str:
    """The text of `udfs/NAME` with its configuration put before it."""
    source = resources.files("adyton.flywheel").joinpath("udfs", name).read_text("utf-8")
    return f"const CONFIG = {json.dumps(config, separators=(',', ':'))};\n{source}"


def _key(kind: int, number: int) -> str:
    return _base64(bytes([kind, number, 0, 0]))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
