"""What a device stores, as records: scripts, payloads, and what may be shown of signals and apps."""

from __future__ import annotations

from dataclasses import dataclass, field

from adyton.kernel.ids import BuyerId


@dataclass(frozen=True)
class SignalFacts:
    """What may be shown of a signal: whose, since when, how large."""

    buyer: BuyerId
    package: str
    created_at_ms: int
    size_bytes: int


@dataclass(frozen=True)
class AppUse:
    """An app that holds signals or is blocked. `consented_at_ms`: its first permitted call, None if there was none."""

    package: str
    signals: int
    size_bytes: int
    blocked: bool
    consented_at_ms: int | None


@dataclass(frozen=True)
class Encoder:
    """A buyer's registered encoding script. `code` is None until the first download.

    version: from the header `X_ENCODER_VERSION`.   revision: counts downloads that changed the script.
    failures: in a row, of this revision.
    """

    buyer: BuyerId
    endpoint: str
    code: str | None = field(repr=False)
    version: int
    downloaded_at_ms: int | None
    registered_at_ms: int
    failures: int
    revision: int


@dataclass(frozen=True)
class EncodedPayload:
    """The bytes that travel in the auction, and what they were made from."""

    buyer: BuyerId
    data: bytes = field(repr=False)
    version: int
    created_at_ms: int
    signal_revision: int
    encoder_revision: int
