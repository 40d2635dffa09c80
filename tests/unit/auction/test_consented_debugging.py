"""Who is debugged: only a request that names the server's own token, and in production never in the answer (§13)."""

from __future__ import annotations

import json
import logging

import pytest

from adyton.auction.services.telemetry import CONSENTED_LOGGER, DebugPolicy, log_to_stderr
from adyton.protocol.messages import server_common_pb2 as common

CONTEXT = common.LogContext(generation_id="77", adtech_debug_id="d")


def consent(token: str, *, is_consented: bool = True, wants_info: bool = True) -> common.ConsentedDebugConfiguration:
    return common.ConsentedDebugConfiguration(
        is_consented=is_consented, token=token, is_debug_info_in_response=wants_info
    )


@pytest.mark.parametrize(
    ("policy", "config", "is_logged", "is_answered"),
    [
        (DebugPolicy("secret"), consent("secret"), True, True),
        (DebugPolicy("secret"), consent("secret", wants_info=False), True, False),
        (DebugPolicy("secret", is_production=True), consent("secret"), True, False),
        (DebugPolicy("secret"), consent("secret", is_consented=False), False, False),
        (DebugPolicy("secret"), consent("Secret"), False, False),
        (DebugPolicy("secret"), consent(""), False, False),
        (DebugPolicy(), consent(""), False, False),
        (DebugPolicy(), consent("secret"), False, False),
    ],
)
def test_a_request_is_told_verbatim_only_with_the_token(
    policy: DebugPolicy,
    config: common.ConsentedDebugConfiguration,
    is_logged: bool,
    is_answered: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, CONSENTED_LOGGER)
    log = policy.request_log("bidding", config, CONTEXT)
    log.note("plain text")
    log.note_script("generateBid", ["a line"])
    log.add_downstream(common.DebugInfo(server_name="self", logs=["theirs"]), "kv")

    assert [record.getMessage() for record in caplog.records] == (
        ["plain text", "generateBid: a line"] if is_logged else []
    )
    assert all((vars(r)["generation_id"], vars(r)["adtech_debug_id"]) == ("77", "d") for r in caplog.records)
    info = log.debug_info()
    if not is_answered:
        assert info is None
        return
    assert info == common.DebugInfo(
        server_name="bidding",
        logs=["plain text", "generateBid: a line"],
        downstream_servers=[common.DebugInfo(server_name="kv", logs=["theirs"])],
    )


def test_a_consented_request_is_logged_whatever_the_level_of_other_logs(capsys: pytest.CaptureFixture[str]) -> None:
    ours, consented = logging.getLogger("adyton"), logging.getLogger(CONSENTED_LOGGER)
    before = (ours.handlers[:], ours.level, ours.propagate, consented.level)
    try:
        log_to_stderr("WARNING")
        DebugPolicy("secret").request_log("bidding", consent("secret"), CONTEXT).note("plain text")
        logging.getLogger("adyton.auction").info("something else")
    finally:
        ours.handlers[:], level, ours.propagate, consented_level = before
        ours.setLevel(level)
        consented.setLevel(consented_level)

    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["message"], told["generation_id"], told["adtech_debug_id"]) == ("plain text", "77", "d")
