"""When keys come and go. Pure rules.

    created ──── published ────> off the list ──── still opened ────> expired
             publish_ms                        grace_ms

A client may keep a list for its max-age, so a key that was just taken off the list still has to open requests for that
long: `grace_ms` is at least `list_age_ms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from adyton.auction.errors import ConfigError
from adyton.auction.keys.tink import private_keyset, public_keyset
from adyton.auction.split_keys import split_key
from adyton.kernel.chance import RandomSource, randbelow
from adyton.protocol.keys import PrivateKey, key_id_of

DAY_MS = 24 * 3_600_000


class KeyType(StrEnum):
    """How many coordinators must answer for a key to be whole."""

    SINGLE = "SINGLE_PARTY_HYBRID_KEY"
    SPLIT = "MULTI_PARTY_HYBRID_EVEN_KEYSPLIT"


@dataclass(frozen=True)
class KeyShare:
    """What one coordinator holds of one key.

    kms_id: 16 hex digits, the first two are the number that requests carry.   material: a Tink keyset, or one of its
    two XOR shares.   index: which share, 0 or 1; 0 for a whole key.
    """

    kms_id: str
    key_type: KeyType
    index: int
    public_key: bytes
    public_keyset: bytes
    material: bytes = field(repr=False)
    created_at_ms: int
    unpublished_at_ms: int
    expires_at_ms: int

    @property
    def key_id(self) -> int:
        """The number 0...255 that requests carry."""
        return key_id_of(self.kms_id)

    def is_published(self, now_ms: int) -> bool:
        return self.created_at_ms <= now_ms < self.unpublished_at_ms

    def is_live(self, now_ms: int) -> bool:
        return now_ms < self.expires_at_ms


@dataclass(frozen=True)
class RotationPolicy:
    """How many keys are on the list at a time, for how long each, and how long after that each still opens requests.

    list_age_ms: what clients are told as max-age at most.
    """

    n_published: int = 5
    publish_ms: int = 30 * DAY_MS
    grace_ms: int = 15 * DAY_MS
    list_age_ms: int = 14 * DAY_MS

    def __post_init__(self) -> None:
        if not 1 <= self.n_published <= 100:
            raise ConfigError("between 1 and 100 keys are published at a time", where="n_published")
        if self.publish_ms <= 0 or self.list_age_ms < 0:
            raise ConfigError("times of a rotation are positive", where="publish_ms, list_age_ms")
        if self.grace_ms < self.list_age_ms:
            raise ConfigError("a key must open requests as long as clients may keep the list", where="grace_ms")
        if self.n_published * (1 + self.grace_ms / self.publish_ms) > 200:
            raise ConfigError("key numbers have one byte: too many keys would be live at a time", where="n_published")


def keys_missing(shares: Iterable[KeyShare], policy: RotationPolicy, now_ms: int) -> int:
    """How many keys a coordinator must make now so that enough are on the list.

    A key counts only until a `n_published`-th of its time on the list is left, so that the list never runs empty and
    keys do not all end at once.
    """
    margin_ms = policy.publish_ms // (2 * policy.n_published)
    fresh = [share for share in shares if share.is_published(now_ms) and share.is_published(now_ms + margin_ms)]
    return max(0, policy.n_published - len(fresh))


def list_max_age_s(shares: Iterable[KeyShare], policy: RotationPolicy, now_ms: int) -> int:
    """Seconds for which the public list may be kept: nobody may still use a key after it has expired."""
    ends = [share.expires_at_ms for share in shares if share.is_published(now_ms)]
    left_ms = min(ends, default=now_ms) - now_ms
    return max(0, min(policy.list_age_ms, left_ms)) // 1000


def make_shares(
    taken: Iterable[KeyShare], policy: RotationPolicy, now_ms: int, *, key_type: KeyType, source: RandomSource
) -> tuple[KeyShare, ...]:
    """A new key, as one whole share or as two, under a number that none of `taken` has.

    Whoever makes it sees it whole for a moment, as the primary coordinator of the reference does.
    """
    key_id = _free_number({share.key_id for share in taken if share.is_live(now_ms)}, source)
    key = PrivateKey.generate(key_id, source)
    keyset = private_keyset(key)
    materials: Sequence[bytes] = (keyset,) if key_type is KeyType.SINGLE else split_key(keyset, source)
    kms_id = f"{key_id:02x}{source.token(7).hex()}"
    return tuple(
        KeyShare(
            kms_id=kms_id,
            key_type=key_type,
            index=index,
            public_key=key.public,
            public_keyset=public_keyset(key),
            material=material,
            created_at_ms=now_ms,
            unpublished_at_ms=now_ms + policy.publish_ms,
            expires_at_ms=now_ms + policy.publish_ms + policy.grace_ms,
        )
        for index, material in enumerate(materials)
    )


def _free_number(taken: set[int], source: RandomSource) -> int:
    free = [number for number in range(256) if number not in taken]
    if not free:
        raise ConfigError("all 256 key numbers are in use", hint="publish fewer keys, or shorten the grace")
    return free[randbelow(source, len(free))]
