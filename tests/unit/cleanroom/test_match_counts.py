"""How many users two parties share: right up to its noise, hidden from both, and too dear to be probed."""

from __future__ import annotations

import json
import math
from collections import Counter
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from adyton.cleanroom.errors import PsiRefusedError
from adyton.cleanroom.ledger_store import FileCounter, LedgerStore
from adyton.cleanroom.noise import discrete_laplace
from adyton.cleanroom.psi import (
    Answer,
    Offer,
    answer,
    count,
    hash_to_point,
    noise_shift,
    offer,
    shifted_noise,
)
from adyton.cli.psi import psi
from adyton.kernel.chance import InsecureFixedRandom, OsRandom
from adyton.kernel.errors import BadInputError, UnavailableError
from adyton.kernel.ledger import Account, OverBudgetError, PrivacyLoss

LOSS = PrivacyLoss.of(4, "1e-2")
MINE = [f"user-{n}" for n in range(60)]
THEIRS = [f"user-{n}" for n in range(25, 90)]


def exchanged(seed: int = 1, *, k: int = 2, theirs: list[str] = THEIRS) -> tuple[Offer, Answer, X25519PrivateKey]:
    random = InsecureFixedRandom(seed, "psi")
    key = X25519PrivateKey.from_private_bytes(random.token(32))
    asked = offer(MINE, key, random, LOSS)
    return asked, answer(asked, theirs, random, loss=LOSS, k=k), key


def test_the_number_is_right_within_its_radius_and_differs_between_askings() -> None:
    found = [count(reply, key) for _, reply, key in (exchanged(seed) for seed in range(6))]
    true = len(set(MINE) & set(THEIRS))

    assert all(one.users is not None and abs(one.users - true) <= one.radius for one in found)
    assert len({one.users for one in found}) > 1


def test_a_number_below_k_is_not_told() -> None:
    _, reply, key = exchanged(k=50)
    assert count(reply, key).users is None


def test_another_key_learns_nothing_but_noise() -> None:
    _, reply, _ = exchanged()
    stranger = X25519PrivateKey.generate()
    assert count(reply, stranger).users is None


def test_what_is_sent_holds_no_hash_of_an_id_and_hides_both_lengths() -> None:
    asked, reply, _ = exchanged()
    hashes = {hash_to_point(one) for one in (*MINE, *THEIRS)}

    assert not hashes & {*asked.points, *reply.first, *reply.second}
    assert len(reply.first) == len(asked.points) + 2 * reply.shift
    lengths = {len(exchanged(seed)[1].second) - len(THEIRS) for seed in range(6)}
    assert len(lengths) > 1
    assert min(lengths) >= 0


def test_an_offer_that_could_single_somebody_out_is_not_answered() -> None:
    asked, _, _ = exchanged()
    random = OsRandom()
    with pytest.raises(PsiRefusedError, match="fewer than 1000"):
        answer(asked, THEIRS, random, loss=LOSS, k=1000)
    with pytest.raises(PsiRefusedError, match="twice"):
        answer(Offer((*asked.points, asked.points[0]), asked.base), THEIRS, random, loss=LOSS, k=2)
    with pytest.raises(BadInputError, match="small order"):
        answer(Offer((*asked.points, bytes(32)), asked.base), THEIRS, random, loss=LOSS, k=2)


def test_points_are_on_the_curve_and_ids_are_trimmed() -> None:
    prime = 2**255 - 19
    for one in MINE[:20]:
        u = int.from_bytes(hash_to_point(one), "little")
        v2 = (u**3 + 486_662 * u * u + u) % prime
        assert pow(v2, (prime - 1) // 2, prime) == 1
    assert hash_to_point(" user-1 ") == hash_to_point("user-1") != hash_to_point("user-2")


def test_noise_is_discrete_laplace_and_cut_at_both_ends() -> None:
    """20,000 draws: each frequency within five standard errors of the exact probability."""
    random = InsecureFixedRandom(3, "laplace")
    epsilon, n = Fraction(1, 2), 20_000
    drawn = Counter(discrete_laplace(epsilon, random) for _ in range(n))
    base = math.exp(-0.5)
    for value in range(-4, 5):
        p = (1 - base) / (1 + base) * base ** abs(value)
        assert abs(drawn[value] / n - p) < 5 * (p * (1 - p) / n) ** 0.5
    loss = PrivacyLoss.of("1/2", "1/10")
    shift = noise_shift(loss)
    made = [shifted_noise(loss, random) for _ in range(2_000)]
    assert (min(made), max(made)) == (0, 2 * shift)


def test_probing_by_one_user_more_and_less_runs_into_the_budget(tmp_path: Path) -> None:
    """The exact count would tell at the first difference whether user-30 is a customer; here it costs the ledger."""
    runner, told = CliRunner(), []
    (tmp_path / "theirs.csv").write_text("user_id\n" + "\n".join(THEIRS) + "\n")
    for number in range(4):
        ids = [one for one in MINE if number % 2 or one != "user-30"]
        (tmp_path / "mine.csv").write_text("user_id\n" + "\n".join(ids) + "\n")
        names = {name: str(tmp_path / f"{name}-{number}") for name in ("offer", "secret", "answer")}
        asked = ["offer", str(tmp_path / "mine.csv"), "--column", "user_id", "-o", names["offer"]]
        assert runner.invoke(psi, [*asked, "--secret", names["secret"]]).exit_code == 0
        answered = [
            "answer",
            names["offer"],
            str(tmp_path / "theirs.csv"),
            "--column",
            "user_id",
            "-o",
            names["answer"],
        ]
        answered += ["--owner", "publisher", "--ledger", str(tmp_path / "l" / "ledger.sqlite"), "--k", "5"]
        answered += ["--counter", str(tmp_path / "c" / "counter.json"), "--budget-epsilon", "3", "--epsilon", "1"]
        if number == 0:
            Path(names["answer"]).write_text("mine")
            taken = runner.invoke(psi, answered)
            assert isinstance(taken.exception, BadInputError)
            assert not (tmp_path / "l" / "ledger.sqlite").exists()  # nothing is paid for an answer that cannot be kept
            Path(names["answer"]).unlink()
        result = runner.invoke(psi, answered)
        if result.exit_code:
            assert isinstance(result.exception, OverBudgetError)
            assert not Path(names["answer"]).exists()
            break
        counted = runner.invoke(psi, ["count", names["answer"], "--secret", names["secret"], "--json"])
        told.append(json.loads(counted.stdout))
    assert number == 3
    assert all(one["users"] is None or abs(one["users"] - 35) <= one["radius"] + 1 for one in told)
    assert (Path(names["secret"]).stat().st_mode & 0o777) == 0o600


ACCOUNT = Account("publisher", "users")


def asked_and_answered(folder: Path, mine: list[str] = MINE) -> Result:
    """One exchange, up to the answer."""
    for name, ids in (("mine", mine), ("theirs", THEIRS)):
        (folder / f"{name}.csv").write_text("user_id\n" + "\n".join(ids) + "\n")
    offered = ["offer", str(folder / "mine.csv"), "--column", "user_id", "-o", str(folder / "offer")]
    assert CliRunner().invoke(psi, [*offered, "--secret", str(folder / "secret")]).exit_code == 0
    payment = ["--owner", "publisher", "--ledger", str(folder / "ledger"), "--counter", str(folder / "counter")]
    answered = ["answer", str(folder / "offer"), str(folder / "theirs.csv"), "--column", "user_id", "--k", "5"]
    return CliRunner().invoke(psi, [*answered, "-o", str(folder / "answer"), "--epsilon", "1", *payment])


def spent(folder: Path) -> PrivacyLoss:
    return LedgerStore(folder / "ledger", FileCounter(folder / "counter")).ledger({}).spent(ACCOUNT)


def test_an_answer_that_fails_after_its_noise_was_drawn_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can make an answer fail late would otherwise look again and again for nothing."""

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("adyton.cleanroom.psi.Answer", fail)
    result = asked_and_answered(tmp_path)

    assert isinstance(result.exception, MemoryError)
    assert spent(tmp_path) == PrivacyLoss.of(1, "1e-6")
    assert not (tmp_path / "answer").exists()


def test_an_answer_that_is_refused_before_any_noise_costs_nothing(tmp_path: Path) -> None:
    result = asked_and_answered(tmp_path, mine=MINE[:1])
    bad = json.loads((tmp_path / "offer").read_text())
    assert result.exit_code == 0  # fillers make even one id a long offer
    assert spent(tmp_path) == PrivacyLoss.of(1, "1e-6")

    bad["points"][0] = bytes(32).hex()
    (tmp_path / "offer").write_text(json.dumps(bad))
    (tmp_path / "answer").unlink()
    payment = ["--owner", "publisher", "--ledger", str(tmp_path / "ledger"), "--counter", str(tmp_path / "counter")]
    answered = ["answer", str(tmp_path / "offer"), str(tmp_path / "theirs.csv"), "--column", "user_id", "--k", "5"]
    refused = CliRunner().invoke(psi, [*answered, "-o", str(tmp_path / "answer"), "--epsilon", "1", *payment])

    assert isinstance(refused.exception, BadInputError)
    assert spent(tmp_path) == PrivacyLoss.of(1, "1e-6")


def test_an_enclave_does_not_give_back_what_a_running_answer_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives back what dead jobs held; this one is alive, and fails later, with its noise drawn."""

    def sweep_and_fail(*_: object) -> None:
        assert LedgerStore(tmp_path / "ledger", FileCounter(tmp_path / "counter")).settle_crashed() == []
        raise MemoryError

    monkeypatch.setattr("adyton.cleanroom.psi.Answer", sweep_and_fail)
    result = asked_and_answered(tmp_path)

    assert isinstance(result.exception, MemoryError)
    assert spent(tmp_path) == PrivacyLoss.of(1, "1e-6")


def test_an_answer_for_which_there_is_no_room_is_not_paid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    assert isinstance(asked_and_answered(tmp_path).exception, UnavailableError)
    assert not (tmp_path / "ledger").exists()


def test_users_without_an_id_are_not_one_shared_user(tmp_path: Path) -> None:
    (tmp_path / "blank.csv").write_text('user_id\n"  "\n""\n')
    asked = ["offer", str(tmp_path / "blank.csv"), "--column", "user_id", "-o", str(tmp_path / "offer")]
    refused = CliRunner().invoke(psi, [*asked, "--secret", str(tmp_path / "secret")])
    assert isinstance(refused.exception, BadInputError)


@pytest.mark.parametrize("wrong", [{"shift": float("inf")}, {"shift": -5}, {"k": 0}])
def test_numbers_that_no_answer_has_are_refused(tmp_path: Path, wrong: dict[str, float]) -> None:
    assert asked_and_answered(tmp_path).exit_code == 0
    record = json.loads((tmp_path / "answer").read_text())
    (tmp_path / "wrong").write_text(json.dumps({**record, **wrong}))
    counted = CliRunner().invoke(psi, ["count", str(tmp_path / "wrong"), "--secret", str(tmp_path / "secret")])
    assert isinstance(counted.exception, BadInputError)
