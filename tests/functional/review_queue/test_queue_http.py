"""The API and pages over a real socket."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from adyton.console.review_queue.app import create_app
from adyton.console.review_queue.server import listen, running
from adyton.kernel.clock import ManualClock
from adyton.kernel.errors import BadInputError
from adyton.review.queue.people import issue_token
from adyton.review.queue.permissions import Role
from adyton.review.queue.records import PersonId
from adyton.review.queue.tables import ads

AD = {
    "buyer": "shop.example",
    "creative_id": "c1",
    "title": "Shoes <script>alert(1)</script>",
    "text": "Good shoes",
    "render_url": "https://shop.example/shoes",
    "market": "US",
    "countries": ["US"],
    "product_line": "auction",
    "value_per_click_micros": 500_000,
    "currency": "USD",
}
PAGES = ["/work", "/lead", "/audit", "/mine", "/ads/ad-1"]
ERROR_KEYS = {"error", "what", "where", "fault", "hint"}


class Site:
    def __init__(self, floor: Any, address: str) -> None:
        self.floor = floor
        self.address = address
        floor.person("mod")
        self.tokens = {
            name: issue_token(floor.desk, None, PersonId(name)) for name in ("lead", "auditor", "adv", "mod")
        }

    def client(self, name: str | None = None, **options: Any) -> httpx.Client:
        headers = {} if name is None else {"Authorization": f"Bearer {self.tokens[name]}"}
        return httpx.Client(base_url=self.address, headers=headers, timeout=60, **options)


@pytest.fixture
def site(floor: Any) -> Iterator[Site]:
    with running(create_app(floor.desk, threads=4, sweep_seconds=0.05)) as address:
        yield Site(floor, address)


def test_an_ad_goes_through_review_over_http(site: Site) -> None:
    with site.client("adv") as adv, site.client("mod") as mod, site.client("auditor") as auditor:
        submitted = adv.post("/api/ads", json=AD)
        ad_id = submitted.json()["ad_id"]
        claim = mod.post("/api/claims").json()
        decision = {
            "claim_token": claim["claim_token"],
            "findings": [{"label": "weapons", "version": 1, "verdict": "rejected", "evidence": "a knife"}],
        }
        first = mod.post(f"/api/ads/{ad_id}/decide", json=decision)
        second = mod.post(f"/api/ads/{ad_id}/decide", json=decision)
        appeal = adv.post(f"/api/ads/{ad_id}/appeal", json={"why": "a butter knife"})
        nothing = mod.post("/api/claims").json()
        verification = auditor.get("/api/events/verification")
        approved = auditor.get("/api/approved")

    assert submitted.status_code == 201
    assert claim["ad"]["ad_id"] == ad_id
    assert first.status_code == 200
    assert first.json()["verdict"] == "rejected"
    assert second.json()["history"] == first.json()["history"]
    assert appeal.json()["state"] == "queued"
    assert (nothing["ad"], nothing["barred"]) == (None, {"judged": 1})
    assert verification.json()["n_events"] > 0
    assert approved.json() == {"ads": [], "n_kept_back": 0}


def test_without_a_token_every_address_is_closed(site: Site) -> None:
    with site.client() as nobody:
        description = nobody.get("/openapi.json").json()
        answers = {
            (method, path): nobody.request(method, path.replace("{ad_id}", "ad-1").replace("{person_id}", "mod"))
            for path, methods in description["paths"].items()
            for method in methods
        }
        pages = [nobody.get(page + twin) for page in PAGES for twin in ("", ".json")]
        as_browser = nobody.get("/work", headers={"Accept": "text/html"})

    assert len(answers) > 25
    assert {answer.status_code for answer in answers.values()} == {401}
    assert {answer.status_code for answer in pages} == {401}
    assert all(set(answer.json()) == ERROR_KEYS for answer in [*answers.values(), *pages])
    assert (as_browser.status_code, as_browser.headers["location"]) == (303, "/sign-in")


@pytest.mark.parametrize("header", ["Bearer adq_" + "0" * 64, "Bearer", "Basic YWRxXw==", "adq_x", "Bearer \x7f"])
def test_a_bad_token_is_refused(site: Site, header: str) -> None:
    with site.client() as nobody:
        answer = nobody.get("/api/me", headers={"Authorization": header})

    assert answer.status_code == 401


def test_each_kind_of_refusal_has_its_status_and_the_one_shape(site: Site) -> None:
    with site.client("mod") as mod, site.client("lead") as lead, site.client("adv") as adv:
        ad_id = adv.post("/api/ads", json=AD).json()["ad_id"]
        answers = {
            403: mod.get("/api/people"),
            404: mod.get("/api/ads/ad-unknown"),
            405: mod.patch("/api/ads"),
            409: adv.post(f"/api/ads/{ad_id}/appeal", json={"why": "x"}),
            413: lead.post("/api/policies", content=b"x" * 2_000_001),
            422: adv.post("/api/ads", json=AD | {"currency": "dollars"}),
        }
        other_404 = mod.get("/api/nothing")
        not_json = adv.post("/api/ads", content=b"{", headers={"Content-Type": "application/json"})
        unknown_field = adv.post("/api/ads", json=AD | {"surprise": 1})
        control = adv.post("/api/ads", json=AD | {"title": "a\x00b"})

    assert {status: answer.status_code for status, answer in answers.items()} == {one: one for one in answers}
    for answer in (*answers.values(), other_404, not_json, unknown_field, control):
        assert set(answer.json()) == ERROR_KEYS
        assert answer.json()["hint"] or answer.json()["where"]
    assert "dollars" not in answers[422].text
    assert answers[422].json()["where"] == "body.currency"
    assert (not_json.status_code, unknown_field.status_code, control.status_code) == (422, 422, 422)


def test_every_page_has_a_twin_with_the_same_data(site: Site) -> None:
    with site.client("adv") as adv:
        ad_id = adv.post("/api/ads", json=AD).json()["ad_id"]
    home = {"mod": "/work", "lead": "/lead", "auditor": "/audit", "adv": "/mine"}
    for name, page in home.items():
        with site.client(name) as client:
            shown, twin = client.get(page), client.get(page + ".json")
        assert shown.status_code == twin.status_code == 200, shown.text
        assert shown.headers["content-type"].startswith("text/html")
        assert isinstance(twin.json(), dict)
        assert "default-src 'self'" in shown.headers["content-security-policy"]
    with site.client("adv") as client:
        shown, twin = client.get(f"/ads/{ad_id}"), client.get(f"/ads/{ad_id}.json")
    assert twin.json()["ad"]["ad_id"] == ad_id
    assert "<script>alert" not in shown.text


def test_pages_of_other_roles_are_refused(site: Site) -> None:
    with site.client("mod") as mod, site.client("adv") as adv:
        answers = [mod.get("/lead"), mod.get("/audit"), adv.get("/work"), adv.get("/audit.json")]

    assert [answer.status_code for answer in answers] == [403] * 4


def test_a_disabled_button_says_why_in_the_words_of_the_rule(site: Site) -> None:
    with site.client("adv") as adv:
        ad_id = adv.post("/api/ads", json=AD).json()["ad_id"]
        page = adv.get(f"/ads/{ad_id}").text
        refusal = adv.post(f"/api/ads/{ad_id}/appeal", json={"why": "x"}).json()
    (title,) = re.findall(r'<button disabled title="([^"]*)">appeal', page)

    assert title == f"{refusal['what']} ({refusal['hint']})"


def test_the_cookie_works_for_pages_and_changes_need_the_header(site: Site) -> None:
    with site.client() as browser:
        signed = browser.post("/sign-in", json={"token": site.tokens["mod"]})
        cookie = signed.headers["set-cookie"].lower()
        page = browser.get("/work")
        forged = browser.post("/api/claims")
        ours = browser.post("/api/claims", headers={"X-Adyton": "1"})
        browser.post("/sign-out", headers={"X-Adyton": "1"})
        after = browser.get("/work")

    assert signed.json() == {"home": "/work"}
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert (page.status_code, forged.status_code, ours.status_code, after.status_code) == (200, 403, 200, 401)


def test_the_server_takes_expired_claims_back_by_itself(site: Site, clock: ManualClock) -> None:
    with site.client("adv") as adv, site.client("mod") as mod, site.client("lead") as lead:
        ad_id = adv.post("/api/ads", json=AD).json()["ad_id"]
        mod.post("/api/claims")
        clock.advance_ms(11 * 60_000)
        for _ in range(600):
            state = lead.get(f"/api/ads/{ad_id}").json()["state"]
            if state == "queued":
                break

    assert state == "queued"


def test_a_lead_runs_the_desk_over_http(site: Site) -> None:
    with site.client("lead") as lead:
        person = lead.put("/api/people/new", json={"role": "moderator", "markets": ["US"]})
        token = lead.post("/api/people/new/tokens", json={}).json()["token"]
        golden = lead.post("/api/golden", json={"submission": AD, "expected": "rejected"})
        policy = lead.post("/api/policies", json={"label": "tobacco", "title": "Tobacco", "worst": "limited"})
        lead.post("/api/ads", json=AD)
        bulk = lead.post("/api/withdrawals", json={"buyer": "shop.example", "why": "fraud"})
        new = httpx.get(f"{site.address}/api/me", headers={"Authorization": f"Bearer {token}"})
        ended = lead.delete("/api/people/new/tokens")

    assert person.json()["role"] == Role.MODERATOR.value
    assert new.json()["person_id"] == "new"
    assert (golden.status_code, policy.status_code) == (201, 201)
    assert len(bulk.json()["withdrawn"]) == 1
    assert ended.json() == {"n_revoked": 1}


REJECT = [{"label": "weapons", "version": 1, "verdict": "rejected", "evidence": "a knife"}]


def _submit(client: httpx.Client, creative_id: str, **given: Any) -> str:
    answer = client.post("/api/ads", json=AD | {"creative_id": creative_id} | given)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ad_id"])


def test_hold_resume_skip_and_escalation_over_http(site: Site) -> None:
    site.floor.person("lawyer", queues=("legal",))
    site.tokens["lawyer"] = issue_token(site.floor.desk, None, PersonId("lawyer"))
    with site.client("adv") as adv, site.client("mod") as mod, site.client("lawyer") as lawyer:
        _submit(adv, "one")
        claim = mod.post("/api/claims").json()
        here, token = f"/api/ads/{claim['ad']['ad_id']}", {"claim_token": claim["claim_token"]}
        held = mod.post(f"{here}/hold", json=token | {"minutes": 60, "why": "asking"}).json()
        resumed = mod.post(f"{here}/resume", json=token).json()
        skipped = mod.post(f"{here}/skip", json=token | {"why": "I know them"}).json()
        nothing = mod.post("/api/claims").json()
        second = lawyer.post("/api/claims").json()
        to_queue = {"claim_token": second["claim_token"], "queue": "legal", "why": "health"}
        escalated = lawyer.post(f"{here}/escalate", json=to_queue).json()
        listed = lawyer.get("/api/escalations").json()["ads"]
        refused = mod.post(f"{here}/take")
        taken = lawyer.post(f"{here}/take").json()
        decided = lawyer.post(f"{here}/decide", json={"claim_token": taken["claim_token"]}).json()

    assert (held["state"], resumed["state"]) == ("held", "claimed")
    assert (skipped["skipped"], nothing["ad"], nothing["barred"]) == (True, None, {"skipped": 1})
    assert escalated["escalated"] is True
    assert [one["queue"] for one in listed] == ["legal"]
    assert refused.status_code == 404
    assert (taken["expires_at"], decided["verdict"]) == (None, "approved")


def test_hard_content_stops_at_the_days_budget_over_http(site: Site, clock: ManualClock) -> None:
    with site.client("lead") as lead, site.client("mod") as mod:
        lead.put("/api/people/mod", json={"role": "moderator", "markets": ["US"], "exposure_budget": 4})
        for k in range(2):
            _submit(lead, f"hard{k}", severity=3)
        claim = mod.post("/api/claims").json()
        mod.post(f"/api/ads/{claim['ad']['ad_id']}/decide", json={"claim_token": claim["claim_token"]})
        stopped = mod.post("/api/claims").json()
        seen = lead.get("/api/queue").json()["exposure_last_24_h"]
        clock.advance_ms(24 * 3_600_000)
        next_day = mod.post("/api/claims").json()

    assert claim["exposure_left"] == 1
    assert (stopped["ad"], stopped["barred"], stopped["exposure_left"]) == (None, {"exposure": 1}, 1)
    assert seen == [{"person_id": "mod", "points": 3}]
    assert next_day["ad"] is not None


def test_golden_items_and_appeals_give_accuracy_over_time_over_http(
    make_floor: Callable[..., Any], clock: ManualClock
) -> None:
    floor = make_floor(golden_one_in=1)
    floor.person("other")
    with running(create_app(floor.desk, threads=4)) as address:
        site = Site(floor, address)
        site.tokens["other"] = issue_token(floor.desk, None, PersonId("other"), days=90)
        site.tokens["mod"] = issue_token(floor.desk, None, PersonId("mod"), days=90)
        with site.client("lead") as lead, site.client("mod") as mod, site.client("adv") as adv:
            lead.post("/api/golden", json={"submission": AD | {"creative_id": "g"}, "expected": "rejected"})
            golden = mod.post("/api/claims").json()
            text = str(golden).lower()
            mod.post(
                f"/api/ads/{golden['ad']['ad_id']}/decide",
                json={"claim_token": golden["claim_token"], "findings": REJECT},
            )
            clock.advance_ms(24 * 3_600_000)
            ad_id = _submit(adv, "real")
            claim = mod.post("/api/claims").json()
            assert claim["ad"]["ad_id"] == ad_id  # nobody gets an item twice
            mod.post(f"/api/ads/{ad_id}/decide", json={"claim_token": claim["claim_token"], "findings": REJECT})
            appealed = adv.post(f"/api/ads/{ad_id}/appeal", json={"why": "a butter knife"}).json()
            with site.client("other") as other:
                golden = other.post("/api/claims").json()  # the item, for the first time for this one
                other.post(f"/api/ads/{golden['ad']['ad_id']}/release", json={"claim_token": golden["claim_token"]})
                again = other.post("/api/claims").json()
                other.post(f"/api/ads/{ad_id}/decide", json={"claim_token": again["claim_token"]})
            days = mod.get("/api/quality", params={"only_own": True}).json()["days"]
            forbidden = mod.get("/api/quality")

    assert "golden" not in text
    assert (appealed["reason"], appealed["verdict"], again["ad"]["ad_id"]) == ("appeal", "rejected", ad_id)
    assert [(one["source"], one["n_right"], one["n_marks"]) for one in days] == [("golden", 1, 1), ("appeal", 0, 1)]
    assert days[0]["day"] < days[1]["day"]
    assert forbidden.status_code == 403


def test_a_bulk_withdrawal_tells_what_it_did_over_http(site: Site) -> None:
    with site.client("lead") as lead, site.client("auditor") as auditor:
        ours = [_submit(lead, f"c{k}") for k in range(3)]
        theirs = _submit(lead, "x", buyer="other.example")
        named = {"ad_ids": [ours[0], "ad-none"], "why": "fraud"}
        first = lead.post("/api/withdrawals", json=named).json()
        rest = lead.post("/api/withdrawals", json={"buyer": "shop.example", "why": "fraud"}).json()
        neither = lead.post("/api/withdrawals", json={"why": "fraud"})
        refused = auditor.post("/api/withdrawals", json=named)
        left = lead.get("/api/ads", params={"state": "queued"}).json()["ads"]

    assert (first["withdrawn"], first["unknown"]) == ([ours[0]], ["ad-none"])
    assert (set(rest["withdrawn"]), rest["unchanged"]) == (set(ours[1:]), [ours[0]])
    assert (neither.status_code, refused.status_code) == (422, 403)
    assert [one["ad_id"] for one in left] == [theirs]


def test_a_browser_that_is_refused_gets_a_page_and_a_script_the_one_shape(site: Site) -> None:
    with site.client("mod") as mod:
        pages = [mod.get(path, headers={"Accept": "text/html"}) for path in ("/ads/ad-none", "/lead", "/nothing")]
        shapes = [mod.get(path) for path in ("/ads/ad-none", "/lead", "/nothing")]

    assert [one.status_code for one in pages] == [one.status_code for one in shapes] == [404, 403, 404]
    assert all("<h1>" in one.text and "to my page" in one.text for one in pages)
    assert all(set(one.json()) == ERROR_KEYS for one in shapes)


def test_pages_load_nothing_from_elsewhere() -> None:
    folder = Path(create_app.__code__.co_filename).parent
    files = [*folder.glob("templates/*.html"), *folder.glob("static/*")]
    elsewhere = [one.name for one in files if re.search(r"(src|href|url)\s*[=(]\s*[\"']?(https?:)?//", one.read_text())]

    assert len(files) > 8
    assert elsewhere == []


def test_an_end_in_the_wrong_unit_is_refused_before_it_breaks_every_list(site: Site) -> None:
    with site.client("adv") as adv:
        refused = adv.post("/api/ads", json=AD | {"expires_at_ms": 1_800_000_000_000_000})
        taken = adv.post("/api/ads", json=AD | {"creative_id": "c2", "expires_at_ms": 253_402_300_799_999})

    assert (refused.status_code, refused.json()["where"]) == (422, "body.expires_at_ms")
    assert taken.json()["expires_at"].startswith("9999-12-31T23:59:59")


def test_an_ad_with_such_an_end_from_before_can_be_listed_claimed_and_decided(site: Site) -> None:
    with site.client("adv") as adv, site.client("mod") as mod, site.client("lead") as lead:
        ad_id = _submit(adv, "old")
        with site.floor.desk.writing() as tx:
            tx.conn.execute(sa.update(ads).values(expires_at_ms=2**53 - 1))
        listed = [client.get("/api/ads").status_code for client in (adv, lead)]
        page = lead.get("/ads", headers={"Accept": "text/html"}).status_code
        claim = mod.post("/api/claims")
        decided = mod.post(f"/api/ads/{ad_id}/decide", json={"claim_token": claim.json()["claim_token"]})

    assert [*listed, page, claim.status_code, decided.status_code] == [200] * 5


@pytest.mark.parametrize("host", ["", " "])
def test_an_empty_host_does_not_open_the_queue_to_every_network(host: str) -> None:
    with pytest.raises(BadInputError, match="empty"):
        listen(host, 0)
