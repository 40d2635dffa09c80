"""How many users two parties share, before there is a contract: private set intersection that tells a noised size.

    A (asks)                                        B (answers, and pays from its own ledger)
    a, secret; offer = {a H(x)}, a G, shuffled  ->  b, secret; first = {b a H(x)}, second = {b H(y)}, both shuffled
    |{a s : s in second} ∩ first| - t           <-  with z pairs (r a G, r G) hidden among them, and fillers

H maps an id to a point of Curve25519, and `k P` is X25519 (RFC 7748), which commutes. Ids in an exchange are blinded by
keys that never leave their owner, so neither side learns which ids match, only how many.

An exact number could be probed by adding and taking away one user, so the exact number is never told: B hides z matches
that nobody can tell from real ones (by decisional Diffie-Hellman), z = t + discrete Laplace noise cut to [0, 2t], and A
takes t away again. What A learns is then (epsilon, delta)-differentially private for each user of B: its number, and
the lengths of both lists, at half of epsilon and delta each. A pads its own list alike. Asking again costs B's budget
again, so that a thousand askings tell no more than the budget allows. Counts below k are told as such.

Honest but curious: A that leaves its own ids out of the offer only sees a smaller noised number; B that answers wrongly
makes A's number wrong. Both learn the (noised) length of the other's list.

Source: Huberman, Franklin and Hogg (1999); Ion et al., "On deploying secure computation" (2020), for the size only;
De Cristofaro, Gasti and Tsudik (2012), on shuffling; RFC 7748; cleanroom §1.2 and §4.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from adyton.cleanroom.errors import PsiRefusedError
from adyton.cleanroom.noise import discrete_laplace
from adyton.kernel.chance import RandomSource
from adyton.kernel.errors import BadInputError
from adyton.kernel.ledger import PrivacyLoss

POINT_BYTES: Final = 32
MAX_POINTS: Final = 20_000_000
_PRIME: Final = 2**255 - 19
_A: Final = 486_662
_DOMAIN: Final = b"adyton psi point v1\x00"


@dataclass(frozen=True)
class Offer:
    """What A sends. `points`: blinded ids and fillers.   base: A's key times the base point."""

    points: tuple[bytes, ...]
    base: bytes


@dataclass(frozen=True)
class Answer:
    """What B sends back. `shift`: t, to be taken away.   k: numbers below it are not told.   loss: what B spent."""

    first: frozenset[bytes]
    second: tuple[bytes, ...]
    shift: int
    k: int
    loss: PrivacyLoss


@dataclass(frozen=True)
class MatchCount:
    """users: noised; None below k.   radius: how far off at most.   k: the answer's."""

    users: int | None
    radius: int
    k: int


def offer(ids: Iterable[str], key: X25519PrivateKey, random: RandomSource, loss: PrivacyLoss) -> Offer:
    """A's message over its distinct ids. Fillers hide the exact number of them at `loss`.

    Raises BadInputError for no ids, or too many.
    """
    points = [_times(key, hash_to_point(one)) for one in _distinct(ids)]
    points += [_random_point(random) for _ in range(shifted_noise(loss, random))]
    return Offer(tuple(_shuffled(points, random)), key.public_key().public_bytes_raw())


def answer(
    asked: Offer,
    ids: Iterable[str],
    random: RandomSource,
    *,
    loss: PrivacyLoss,
    k: int,
    least: int | None = None,
    noise: RandomSource | None = None,
) -> Answer:
    """B's message. `loss` has to be spent before it is sent.   least: the smallest offer to answer, k if None.

    random: of keys, fillers and the order.   noise: of what `loss` pays for, `random` if None.

    Raises PsiRefusedError for an offer that is too small to hide anybody in, BadInputError for points that are none.
    """
    if len(set(asked.points)) != len(asked.points):
        raise PsiRefusedError("the offer names a point twice, which would weigh one user more than once")
    wanted = k if least is None else least
    if len(asked.points) < wanted:
        raise PsiRefusedError(f"an offer of fewer than {wanted} users is not answered")
    half = PrivacyLoss(loss.epsilon / 2, loss.delta / 2)
    key = X25519PrivateKey.from_private_bytes(random.token(POINT_BYTES))
    first = [_times(key, point) for point in asked.points]
    second = [_times(key, hash_to_point(one)) for one in _distinct(ids)]
    for _ in range(shifted_noise(half, noise or random)):
        pair = X25519PrivateKey.from_private_bytes(random.token(POINT_BYTES))
        first.append(_times(pair, asked.base))
        second.append(pair.public_key().public_bytes_raw())
    # The number of pairs is hidden in the first list by nothing but the second's fillers, so both are filled.
    most = 2 * noise_shift(half)
    first += [_random_point(random) for _ in range(most - (len(first) - len(asked.points)))]
    second += [_random_point(random) for _ in range(shifted_noise(half, noise or random))]
    return Answer(frozenset(first), tuple(_shuffled(second, random)), noise_shift(half), k, loss)


def count(reply: Answer, key: X25519PrivateKey) -> MatchCount:
    """What A learns. Raises BadInputError for points that are none."""
    matches = sum(_times(key, point) in reply.first for point in reply.second) - reply.shift
    return MatchCount(matches if matches >= reply.k else None, reply.shift, reply.k)


def noise_shift(loss: PrivacyLoss) -> int:
    """t: the smallest whole number that discrete Laplace noise of scale 1/epsilon passes with probability <= delta / 2.

    Raises BadInputError unless epsilon > 0 and 0 < delta < 1.
    """
    if loss.epsilon <= 0 or not 0 < loss.delta < 1:
        raise BadInputError("a noised size needs epsilon > 0 and 0 < delta < 1")
    return math.ceil(math.log(2 / float(loss.delta)) / float(loss.epsilon)) + 1


def shifted_noise(loss: PrivacyLoss, random: RandomSource) -> int:
    """t + discrete Laplace noise of scale 1/epsilon, cut to [0, 2t]: hides by how much a number moves by one."""
    shift = noise_shift(loss)
    return min(max(shift + discrete_laplace(loss.epsilon, random), 0), 2 * shift)


def hash_to_point(text: str) -> bytes:
    """The u-coordinate of a point that nobody knows the logarithm of: 32 bytes, on the curve and not on its twist.

    Hashes with a counter until one is on the curve, so that a blinded point tells nothing of the id, not one bit. How
    often it hashes depends on the id, and is seen by nobody but its owner. Multiples of eight (RFC 7748's clamping)
    take it into the large subgroup.
    """
    data = text.strip().encode()
    counter = 0
    while True:
        digest = hashlib.sha512(_DOMAIN + counter.to_bytes(4, "big") + data).digest()
        u = int.from_bytes(digest, "little") % _PRIME
        if _is_on_curve(u):
            return u.to_bytes(POINT_BYTES, "little")
        counter += 1


def _is_on_curve(u: int) -> bool:
    """Whether u^3 + A u^2 + u is a square other than zero."""
    return pow(u * (u * u + _A * u + 1) % _PRIME, (_PRIME - 1) // 2, _PRIME) == 1


def _random_point(random: RandomSource) -> bytes:
    secret = X25519PrivateKey.from_private_bytes(random.token(POINT_BYTES))
    return secret.public_key().public_bytes_raw()


def _times(key: X25519PrivateKey, point: bytes) -> bytes:
    try:
        return key.exchange(X25519PublicKey.from_public_bytes(point))
    except ValueError:
        raise BadInputError("a point of the exchange is none, or of small order", where="psi") from None


def _distinct(ids: Iterable[str]) -> list[str]:
    distinct = list(dict.fromkeys(one.strip() for one in ids))
    if not 0 < len(distinct) <= MAX_POINTS:
        raise BadInputError(f"an exchange takes 1 to {MAX_POINTS} ids", where="psi")
    return distinct


def _shuffled(points: Sequence[bytes], random: RandomSource) -> list[bytes]:
    """In an order that says nothing: by fresh random keys."""
    return [point for _, point in sorted((random.token(16), point) for point in points)]
