"""The pages as people use them: a real browser against the real server, on both databases.

What must not happen anywhere: an error in the browser's console, a script that the content policy stops.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from adyton.console.review_queue.app import create_app
from adyton.console.review_queue.server import running
from adyton.kernel.clock import ManualClock
from adyton.kernel.ids import BuyerId
from adyton.review.queue.ad_store import list_ads
from adyton.review.queue.claiming import sweep
from adyton.review.queue.desk_views import see_events
from adyton.review.queue.export import Limit, export_approved
from adyton.review.queue.people import issue_token, person_of_token
from adyton.review.queue.records import Judgement, PersonId
from adyton.review.queue.states import ReviewState, Verdict

pytestmark = pytest.mark.slow


def _missing(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must test the pages in a browser: {why}")
    pytest.skip(f"no browser can be had here: {why}")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's Chromium; playwright's own builds are never downloaded."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        _missing("no chromium on the path (apt install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        _missing("playwright is not installed (pip install 'adyton[dev]')")
    with sync_playwright() as playwright:
        # Root has no user namespaces of its own to put the browser's sandbox in.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


class Office:
    """Browsers of several people at one desk; each has cookies of its own."""

    def __init__(self, chromium: Any, floor: Any, address: str) -> None:
        self.chromium = chromium
        self.floor = floor
        self.address = address
        self.faults: list[str] = []
        self.contexts: list[Any] = []

    def page(self, name: str) -> Any:
        """A page of this person, signed in with a new token by hand."""
        token = issue_token(self.floor.desk, None, PersonId(name))
        context = self.chromium.new_context()
        context.set_default_timeout(60_000)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: self._hear(said.type, said.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(f"{self.address}/sign-in")
        page.fill("[name=token]", token)
        page.click("form button")
        page.wait_for_url(re.compile(r"/(work|lead|audit|mine)$"))
        return page

    def _hear(self, kind: str, text: str) -> None:
        # Chromium reports refused requests there too; those are asked for below.
        if kind in ("error", "warning") and "Failed to load resource" not in text:
            self.faults.append(text)

    def events(self) -> Counter[str]:
        return Counter(one.kind for one in see_events(self.floor.desk, self.floor.auditor, limit=500))

    def ads(self) -> list[Any]:
        with self.floor.desk.reading() as tx:
            return list_ads(tx, sa.true(), limit=100)


@pytest.fixture
def make_office(chromium: Any, make_floor: Callable[..., Any]) -> Iterator[Callable[..., Office]]:
    opened: list[tuple[Any, Office]] = []

    def make(**rules: Any) -> Office:
        floor = make_floor(**rules)
        floor.person("mod")
        server = running(create_app(floor.desk, threads=4, sweep_seconds=600))
        office = Office(chromium, floor, server.__enter__())
        opened.append((server, office))
        return office

    yield make
    for server, office in opened:
        for context in office.contexts:
            context.close()
        server.__exit__(None, None, None)
        assert office.faults == []


@pytest.fixture
def office(make_office: Callable[..., Office]) -> Office:
    return make_office()


def _claim(page: Any) -> None:
    page.click("text=next ad")
    page.wait_for_url("**/ads/*")


def _find(page: Any, label: str, evidence: str, **limits: str) -> None:
    box = page.locator(f".finding[data-label={label}]")
    box.locator("[name=found]").check()
    box.locator("[name=evidence]").fill(evidence)
    if limits:
        box.locator("[name=verdict]").select_option("limited")
    for name, value in limits.items():
        box.locator(f"[name={name}]").fill(value)


def _decide(page: Any) -> None:
    page.locator("#decide button.main").click()
    page.wait_for_url("**/work")


def test_double_clicks_claim_one_ad_and_decide_it_once(office: Office) -> None:
    for k in range(3):
        office.floor.ad(f"c{k}")
    mod = office.page("mod")
    mod.locator("text=next ad").dblclick()
    mod.wait_for_url("**/ads/*")
    mod.locator("#decide button.main").dblclick()
    mod.wait_for_url("**/work")
    states = Counter(ad.state for ad in office.ads())

    assert (office.events()["claim"], office.events()["decide"]) == (1, 1)
    assert states == {ReviewState.DECIDED: 1, ReviewState.QUEUED: 2}


def test_two_windows_of_one_moderator_show_the_same_ad(office: Office) -> None:
    office.floor.ad("one")
    office.floor.ad("two")
    first, second = office.page("mod"), office.page("mod")
    _claim(first)
    _claim(second)
    assert first.url == second.url
    _decide(first)
    second.locator("#decide button.main").click()  # the same decision once more: nothing changes
    second.wait_for_url("**/work")

    assert office.events()["decide"] == 1


def test_the_button_says_what_it_does_and_several_findings_are_kept_with_their_limits(office: Office) -> None:
    office.floor.ad("limited")
    mod = office.page("mod")
    _claim(mod)
    button = mod.locator("#decide button.main")
    assert button.inner_text() == "approve"
    _find(mod, "alcohol", "beer at 0:02", not_in_countries="CA", not_in_placements="feed, stories", min_age="18")
    assert button.inner_text() == "limit"
    _find(mod, "weapons", "a knife")
    assert button.inner_text() == "reject"
    _find(mod, "weapons", "a toy sword", min_age="21")
    _decide(mod)
    (approved,) = export_approved(office.floor.desk, None, {Limit.AGE, Limit.PLACEMENT}).ads

    assert office.ads()[0].verdict is Verdict.LIMITED
    assert [finding.evidence for finding in office.ads()[0].findings] == ["beer at 0:02", "a toy sword"]
    assert (approved.countries, approved.min_age) == (("US",), 21)
    assert approved.not_in_placements == ("feed", "stories")


def test_a_finding_without_evidence_is_not_sent(office: Office) -> None:
    office.floor.ad()
    mod = office.page("mod")
    _claim(mod)
    mod.locator(".finding[data-label=weapons] [name=found]").check()
    mod.locator("#decide button.main").click()
    is_valid = mod.locator(".finding[data-label=weapons] [name=evidence]").evaluate("field => field.checkValidity()")

    assert is_valid is False
    assert office.events()["decide"] == 0


def test_after_the_lock_has_ended_the_page_says_so_and_the_ad_can_be_had_again(
    office: Office, clock: ManualClock
) -> None:
    office.floor.ad()
    mod = office.page("mod")
    _claim(mod)
    address = mod.url
    clock.advance_ms(11 * 60_000)
    mod.locator("#decide button.main").click()
    mod.wait_for_selector("#refusal:not([hidden])")
    assert "the claim ended 1 min 0 s ago" in mod.inner_text("#refusal")
    sweep(office.floor.desk)
    mod.reload()
    assert "your claim on this ad is over" in mod.inner_text("h1")
    mod.click("text=to my page")
    mod.wait_for_url("**/work")
    _claim(mod)

    assert mod.url == address
    assert office.events()["decide"] == 0


def test_the_clock_on_the_page_closes_the_form_when_the_lock_ends(office: Office) -> None:
    office.floor.ad()
    mod = office.page("mod")
    mod.clock.install()
    _claim(mod)
    assert re.fullmatch(r"(10:00|9:\d\d) left", mod.inner_text(".clock"))
    mod.clock.fast_forward(601_000)

    assert mod.inner_text(".clock") == "over"
    assert "goes back to the queue" in mod.inner_text("#refusal")
    assert mod.locator("#decide button.main").is_disabled()


def test_an_ad_is_held_and_resumed_skipped_and_escalated_from_the_page(office: Office) -> None:
    for k in range(3):
        office.floor.ad(f"c{k}")
    office.floor.person("lawyer", queues=("legal",))
    mod, lawyer = office.page("mod"), office.page("lawyer")
    _claim(mod)
    held = mod.url
    mod.click("summary:has-text('Not now')")
    form = mod.locator("form:has(button:text-is('hold'))")
    form.locator("[name=why]").fill("asking")
    # Each step leads to this ad's page again, whose forms are the same: what follows must not meet the page before.
    with mod.expect_navigation():
        form.locator("button").click()
    with mod.expect_navigation():
        mod.click("text=go on with it")
    mod.click("summary:has-text('Not now')")
    form = mod.locator("form:has(button:text-is('skip'))")
    form.locator("[name=why]").fill("I know them")
    form.locator("button").click()
    mod.wait_for_url("**/work")
    _claim(mod)
    assert mod.url != held
    mod.click("summary:has-text('Not now')")
    form = mod.locator("form:has(button:text-is('escalate'))")
    form.locator("[name=queue]").fill("legal")
    form.locator("[name=why]").fill("a claim about health")
    form.locator("button").click()
    mod.wait_for_url("**/work")
    lawyer.reload()
    lawyer.click("button:text-is('take')")
    lawyer.wait_for_url("**/ads/*")
    _decide(lawyer)

    assert {"hold", "resume", "skip", "escalate", "decide"} <= set(office.events())
    assert mod.inner_text("section:has-text('In my hands') li") == "nothing"


def test_an_advertiser_submits_edits_appeals_and_withdraws_its_own_ads_only(
    office: Office, rejected: Judgement
) -> None:
    other = office.floor.ad("theirs", buyer=BuyerId("other.example"), title="Their secret")
    adv, mod = office.page("adv"), office.page("mod")
    assert "Their secret" not in adv.content()
    assert adv.goto(f"{office.address}/ads/{other.ad_id}").status == 404
    assert "there is no such ad" in adv.inner_text("h1")
    for page in ("/work", "/lead", "/audit"):
        assert adv.goto(office.address + page).status == 403
    adv.goto(f"{office.address}/mine")
    values = {"creative_id": "shoes", "title": "Shoes", "text": "Good", "render_url": "https://shop.example/s"}
    values |= {"market": "US", "countries": "US, CA", "product_line": "auction", "value_per_click_micros": "0.35"}
    for name, value in values.items():
        adv.fill(f"#submit [name={name}]", value)
    adv.locator("#submit button").dblclick()
    adv.wait_for_url("**/ads/*")
    (ours,) = [ad for ad in office.ads() if ad.buyer == "shop.example"]
    assert (ours.title, ours.countries, ours.value_per_click_micros) == ("Shoes", ("US", "CA"), 350_000)
    adv.click("summary:has-text('Edit')")
    adv.fill("#edit [name=title]", "Better shoes")
    adv.click("#edit button")
    adv.wait_for_selector("h1:has-text('Better shoes')")
    office.floor.decided(office.floor.person("one"), rejected)
    office.floor.decided(office.floor.person("two"), rejected)
    adv.reload()
    assert "a knife at 0:03" in adv.content()
    adv.fill("#appeal [name=why]", "a butter knife")
    adv.click("#appeal button:not([disabled])")
    adv.wait_for_selector("text=in the queue as >> visible=true")
    adv.wait_for_selector("#appeal button[disabled]")
    assert mod.goto(f"{office.address}/ads/{ours.ad_id}").status == 404
    adv.fill("#withdraw [name=why]", "over")
    adv.click("#withdraw button")
    adv.wait_for_selector(".tag.withdrawn")
    counted = office.events()

    assert (counted["submit"], counted["edit"], counted["appeal"], counted["withdraw"]) == (2, 1, 1, 1)


def test_a_lead_runs_the_desk_from_one_page_and_golden_items_make_accuracy_visible(
    make_office: Callable[..., Office],
) -> None:
    office = make_office(golden_one_in=1)
    lead = office.page("lead")
    lead.click("summary:has-text('Publish a policy')")
    lead.fill("#policy [name=label]", "tobacco")
    lead.fill("#policy [name=title]", "Tobacco")
    lead.click("#policy button")
    lead.wait_for_selector("li:has-text('tobacco, version 1')")
    lead.click("summary:has-text('Add an ad whose')")
    values = {"buyer": "g.example", "creative_id": "g1", "title": "Known bad", "render_url": "https://g.example/"}
    values |= {"market": "US", "countries": "US", "product_line": "auction", "value_per_click_micros": "1"}
    for name, value in values.items():
        lead.fill(f"#golden [name='submission.{name}']", value)
    lead.select_option("#golden [name=expected]", "rejected")
    lead.click("#golden button")
    lead.wait_for_selector("li:has-text('Known bad')")
    lead.click("summary:has-text('Add or change')")
    lead.fill("#person [name=person_id]", "newcomer")
    lead.fill("#person [name=markets]", "US")
    lead.fill("#person [name=exposure_budget]", "9")
    lead.click("#person button")
    lead.wait_for_selector("td:text-is('newcomer')")
    lead.click("tr:has-text('newcomer') button:text-is('new token')")
    lead.wait_for_selector("#answer:not([hidden])")
    token = lead.inner_text("#answer").removeprefix("token: ")
    newcomer = person_of_token(office.floor.desk, token)
    assert (newcomer.person_id, newcomer.exposure_budget) == ("newcomer", 9)
    judge = office.page("newcomer")
    assert "9 of 9 points" in judge.content()
    _claim(judge)
    assert "golden" not in judge.content().lower()
    _decide(judge)
    assert judge.inner_text(".quality").endswith("0 of 1 right")
    lead.reload()
    assert lead.locator(".quality rect.of").count() == 1
    office.floor.ad("one")
    office.floor.ad("two")
    lead.fill("#withdrawals [name=buyer]", "shop.example")
    lead.fill("#withdrawals [name=why]", "fraud")
    lead.click("#withdrawals button")
    lead.wait_for_selector("#answer:not([hidden])")
    assert lead.inner_text("#answer") == "withdrawn: 2 · unchanged: 0 · unknown: 0"
    lead.goto(f"{office.address}/ads?state=decided")
    assert lead.locator(".tag.withdrawn").count() == 2


def test_a_reported_ad_and_a_disagreement_come_to_the_right_people(make_office: Callable[..., Office]) -> None:
    office = make_office(second_one_in=1)
    office.floor.person("other")
    ad = office.floor.ad()
    mod, other, lead = office.page("mod"), office.page("other"), office.page("lead")
    _claim(mod)
    _decide(mod)
    _claim(other)
    assert "Opinions" not in other.content()
    _find(other, "weapons", "a knife")
    _decide(other)
    lead.reload()
    lead.click("button:text-is('take')")
    lead.wait_for_url("**/ads/*")
    assert "a knife" not in lead.inner_text("h1")
    _decide(lead)
    lead.goto(f"{office.address}/ads/{ad.ad_id}")
    lead.fill("#report [name=why]", "a user complained")
    lead.check("#report [name=stops_serving]")
    lead.click("#report button")
    lead.wait_for_selector("text=report: a user complained")
    (file,) = office.ads()

    assert (file.state, file.may_serve) == (ReviewState.QUEUED, False)


def test_an_auditor_verifies_the_chain_and_sees_who_did_what(office: Office) -> None:
    office.floor.ad()
    office.floor.decided(office.floor.person("one"))
    auditor = office.page("auditor")
    auditor.click("text=verify the chain")
    auditor.wait_for_selector("#answer:not([hidden])")

    assert re.match(r"n events: \d+ · newest hash: [0-9a-f]{64}$", auditor.inner_text("#answer"))
    assert auditor.locator(".events tr:has-text('decide')").count() == 1
    assert auditor.locator("button:text-is('withdraw')").count() == 0


def test_a_person_whose_tokens_end_is_signed_out_at_the_next_click(office: Office) -> None:
    office.floor.ad()
    mod, lead = office.page("mod"), office.page("lead")
    lead.click("tr:has-text('mod') button:text-is('end tokens')")
    lead.wait_for_selector("#answer:not([hidden])")
    mod.click("text=next ad")
    mod.wait_for_selector("#refusal:not([hidden])")
    assert "no valid token" in mod.inner_text("#refusal")
    mod.goto(f"{office.address}/work")

    assert mod.url.endswith("/sign-in")
