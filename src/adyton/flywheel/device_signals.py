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

OWN_SERIES, PARTNER_SERIES = 0, 1
MAX_EVENTS = 1000
_PROFILE, _EVENTS, _MARKER = 1, 2, 9


@dataclass(frozen=True)
class SignalPlan:
    """Where each raw user column of the model lives on a device.

    own_columns, partner_columns: profile columns of the advertiser and of the publisher; the slot is the position in
    both together.   partner: the publisher's short name, the prefix of its features in the joined table.
    """

    own_columns: tuple[str, ...]
    partner_columns: tuple[str, ...]
    partner: str

    def slot(self, field: str) -> int | None:
        """The profile slot of a user field, None if it is no profile value."""
        if field in self.own_columns:
            return self.own_columns.index(field)
        bare = field.removeprefix(f"{self.partner}_")
        if bare != field and bare in self.partner_columns:
            return len(self.own_columns) + self.partner_columns.index(bare)
        return None

    def update_json(self, user: HeldOutUser, marker: bytes, *, with_partner: bool) -> bytes:
        """The signal update (protected-auction §2.2) that puts a user's past on a device."""
        put = {_key(_MARKER, 0): _base64(marker)}
        profiles = [(user.advertiser_profile, self.own_columns, 0)]
        series = [(OWN_SERIES, user.advertiser_events)]
        if with_partner:
            profiles.append((user.publisher_profile, self.partner_columns, len(self.own_columns)))
            series.append((PARTNER_SERIES, user.publisher_events))
        for profile, columns, first in profiles:
            for position, name in enumerate(columns):
                if name in profile:
                    put[_key(_PROFILE, first + position)] = _base64(profile[name].encode())
        append = {
            _key(_EVENTS, number): {
                "values": [_base64(bits.to_bytes(2, "little")) for bits in events[-MAX_EVENTS:]],
                "max_signals": MAX_EVENTS,
            }
            for number, events in series
            if events
        }
        return json.dumps({"put": put, "append": append}).encode()

    def encoder_config(self, user_fields: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """CONFIG of `encoder.js` for the user fields of a model's manifest.

        Raises StepFailedError if a field cannot be computed on a device.
        """
        return {"fields": [self._field(entry) for entry in user_fields]}

    def _field(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        name = str(entry["name"])
        if "edges" in entry:
            rule: dict[str, Any] = {"edges": list(entry["edges"])}
        else:
            rule = {"values": {text: index + 1 for index, text in enumerate(entry["values"])}}
        slot = self.slot(name)
        if slot is not None:
            return {**rule, "slot": slot}
        for prefix, number in (("own_user_", OWN_SERIES), (f"{self.partner}_user_", PARTNER_SERIES)):
            what = name.removeprefix(prefix)
            if what == name:
                continue
            if what == "shown":
                return {**rule, "series": number, "bit": None}
            if what.endswith("_rate") and what.removesuffix("_rate") in EVENT_BITS:
                return {**rule, "series": number, "bit": EVENT_BITS.index(what.removesuffix("_rate"))}
        raise StepFailedError("a device cannot compute this user field of the model", where=name)


def published_script(name: str, config: Mapping[str, Any]) -> str:
    """The text of `udfs/NAME` with its configuration put before it."""
    source = resources.files("adyton.flywheel").joinpath("udfs", name).read_text("utf-8")
    return f"const CONFIG = {json.dumps(config, separators=(',', ':'))};\n{source}"


def _key(kind: int, number: int) -> str:
    return _base64(bytes([kind, number, 0, 0]))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
