"""Requests made up from the OpenAPI description: never a server error, always the described shape."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from adyton.console.review_queue.app import create_app
from adyton.kernel.chance import OsRandom
from adyton.review.queue.clocks import DeskRules
from adyton.review.queue.desk import Desk
from adyton.review.queue.people import issue_token
from adyton.review.queue.records import PersonId

ERROR_KEYS = {"error", "what", "where", "fault", "hint"}
ALLOWED = {200, 201, 400, 401, 403, 404, 405, 409, 411, 413, 422, 503}


@pytest.fixture
def prepared(make_floor: Any) -> tuple[Any, dict[str, str], dict[str, list[str]]]:
    """The application with people, ads and a claim, so that made-up requests find something to break."""
    floor = make_floor()
    desk = Desk(floor.desk.engine, DeskRules(second_one_in=2, golden_one_in=3), floor.desk.clock, OsRandom())
    mod = floor.person("mod", queues=("legal",))
    made = [floor.ad(f"c{k}") for k in range(6)]
    claim = floor.claim(mod)
    tokens = {name: issue_token(desk, None, PersonId(name)) for name in ("lead", "auditor", "adv", "mod")}
    known = {"ad_id": [ad.ad_id for ad in made], "claim_token": [claim.token, ""], "person_id": ["mod", "adv"]}
    return create_app(desk), tokens, known


def _fuzz(prepared: tuple[Any, dict[str, str], dict[str, list[str]]], examples: int) -> Counter[int]:
    app, tokens, known = prepared
    seen: Counter[int] = Counter()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    for result in schema.get_all_operations():
        operation = result.ok()
        modes = st.one_of(
            operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
            operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
        )

        @given(case=modes, role=st.sampled_from(sorted(tokens)), data=st.data())
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def run(case: Any, role: str, data: st.DataObject) -> None:
            # Half of the time a real id or token, or else nothing behind the first check would be reached.
            for name in ("ad_id", "person_id"):
                if isinstance(case.path_parameters, dict) and name in case.path_parameters and data.draw(st.booleans()):
                    case.path_parameters[name] = data.draw(st.sampled_from(known[name]))
            if isinstance(case.body, dict) and "claim_token" in case.body and data.draw(st.booleans()):
                case.body["claim_token"] = data.draw(st.sampled_from(known["claim_token"]))
            case.headers = {"Authorization": f"Bearer {tokens[role]}"}
            # Ending the tokens that the fuzz itself uses would turn every later answer into a 401.
            if case.operation.path.endswith("/tokens") and case.method.upper() == "DELETE":
                role = "adv"
                case.headers = {"Authorization": f"Bearer {tokens[role]}"}
            answer = case.call()
            seen[answer.status_code] += 1
            assert answer.status_code in ALLOWED, (case.method, case.path, answer.status_code, answer.text)
            if answer.status_code >= 400:
                assert set(answer.json()) == ERROR_KEYS, answer.text

        run()
    return seen


@pytest.mark.slow
def test_made_up_requests_never_find_a_defect(
    prepared: tuple[Any, dict[str, str], dict[str, list[str]]],
) -> None:
    seen = _fuzz(prepared, 25)

    # It got past the door and through the rules, and not only to the first check.
    assert seen[200] > 100
    assert {403, 404, 409, 422} <= set(seen)
