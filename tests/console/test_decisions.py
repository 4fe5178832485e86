"""What decides a call, and what does not."""

from __future__ import annotations

import base64
import html
import re

import anyio
import pytest

from connector_mcp.engine.preview import Change
from tests.console.conftest import HERE, PUBLIC, Browser, House

pytestmark = pytest.mark.anyio

HOSTILE = "<script>alert(1)</script>\u202e\u200b\x1b[2J\"'><img src=x onerror=y>{{ 7*7 }}"


async def test_a_call_is_shown_with_everything_it_deletes_or_changes(operator: Browser, house: House) -> None:
    approval = await house.park()
    queue = (await operator.get("/console")).text
    for shown in ("Deletes connector “GitHub”", "agent-7", "assistant 1.2", "logto", approval.id, "in 1 h"):
        assert shown in queue
    text = (await operator.get(f"/console/approvals/{approval.id}")).text
    rows = re.findall(r"<bdi>([\w.]+)</bdi></th><td class=\"before\".*?>(?:<span.*?>)(.*?)</span>", text, re.DOTALL)
    assert ("name", "GitHub") in rows
    assert ("config.clientSecret", "[redacted]") in rows
    # Every field of it is deleted, which the heading says once.
    assert ">deleted<" not in text
    assert "All 3 fields of what is deleted" in text
    update = (await operator.get(f"/console/approvals/{(await house.park_update()).id}")).text
    for shown in ("What is lost", "Unsets imageURL (now x.png)", ">Acme CRM<", ">Acme<", ">not set<"):
        assert shown in update


@pytest.mark.parametrize("typed", ["GitHub", " GitHub ", "the id"])
async def test_the_name_or_the_id_approves_as_the_operator(operator: Browser, house: House, typed: str) -> None:
    approval = await house.park()
    name = approval.id if typed == "the id" else typed
    path = f"/console/approvals/{approval.id}"
    answer = await operator.decide(approval, "approve", name=name, reason="ok")
    assert answer.headers["location"] == path
    decided = await house.approvals.get(approval.id)
    assert (decided.status, decided.decided_by) == ("approved", "operator alice")
    assert (decided.channel, decided.reason) == ("console", "ok")
    assert "The same call runs once" in (await operator.get(path)).text


@pytest.mark.parametrize("typed", ["", "github", "GitHub!", "yes"])
async def test_another_name_decides_nothing(operator: Browser, house: House, typed: str) -> None:
    approval = await house.park()
    answer = await operator.decide(approval, "approve", name=typed, reason="kept as typed")

    assert answer.status_code == 422
    assert "Nothing was decided" in answer.text
    assert 'value="kept as typed"' in answer.text
    assert await house.status(approval) == "pending"


async def test_a_denial_keeps_its_reason_without_invisible_characters(operator: Browser, house: House) -> None:
    approval = await house.park()
    await operator.decide(approval, "deny", reason="not\u202e now")
    denied = await house.approvals.get(approval.id)
    assert (denied.status, denied.reason, denied.channel) == ("denied", "not now", "console")
    assert "not now" in (await operator.get("/console/history")).text


SVG = base64.b64encode(b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>').decode()


@pytest.mark.parametrize(
    ("value", "is_shown"),
    [
        (f"data:image/svg+xml;base64,{SVG}", True),
        ('data:image/svg+xml,<svg/onload="alert(1)">', True),
        (f"data:text/html;base64,{SVG}", False),
        (f"DATA:image/png;base64,{SVG}", False),
        (f"data:image/png;base64,{SVG} onerror=alert(1)", False),
        ("https://evil.example/pixel.png", False),
        ("javascript:alert(1)//data:image/png,", False),
    ],
)
async def test_only_whole_pictures_are_shown_and_only_as_images(
    operator: Browser, house: House, value: str, is_shown: bool
) -> None:
    approval = await house.park(snapshot={"name": "GitHub", "logo": value})
    text = (await operator.get(f"/console/approvals/{approval.id}")).text
    sources = [html.unescape(source) for source in re.findall(r'<img[^>]* src="([^"]*)"', text)]
    # Beside what the call does, and in the row of the field.
    assert sources == ([value, value] if is_shown else [])
    assert "<svg" not in text
    assert not re.search(r"<[^>]*\son\w+=[^>]*>", text)


async def test_columns_that_say_nothing_are_left_out(operator: Browser, house: House) -> None:
    def change(before: object, after: object) -> dict[str, object]:
        changes = (Change("a", before, after), Change("b", before, after))
        return {"deletes": False, "diff": changes, "digest": f"{before} {after}"}

    for before, after, columns in ((None, "x", ["After"]), ("x", None, ["Now"]), ("x", "y", ["Now", "After"])):
        approval = await house.park(**change(before, after))
        table = (await operator.get(f"/console/approvals/{approval.id}")).text.partition('id="changes"')[2]
        headings = re.findall(r'<th scope="col">(\w+)</th>', table.partition("</table>")[0])
        assert headings == ["Field", *columns]


OWN = {"Origin": HERE, "Sec-Fetch-Site": "same-origin"}
FORGERIES = {
    "no form token": (None, OWN),
    "another session's form token": ("0" * 64, OWN),
    "a site that may call, but is another": ("own", {"Origin": "https://app.example.com"}),
    "the same, from a browser that says so": ("own", {"Origin": PUBLIC, "Sec-Fetch-Site": "cross-site"}),
    "a neighbor of the site": ("own", {"Origin": HERE, "Sec-Fetch-Site": "same-site"}),
    "a stranger": ("own", {"Origin": "https://evil.example"}),
    "no origin at all": ("own", {}),
    "an origin that is hidden": ("own", {"Origin": "null"}),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_form_decides_nothing(operator: Browser, house: House, forgery: str) -> None:
    approval = await house.park()
    token, headers = FORGERIES[forgery]
    fields = {"name": "GitHub"}
    if token is not None:
        fields["form_token"] = await operator.form_token() if token == "own" else token
    for verb in ("approve", "deny"):
        answer = await operator.submit(f"/console/approvals/{approval.id}/{verb}", headers=headers, **fields)
        assert answer.status_code == 403
    assert await house.status(approval) == "pending"


async def test_an_older_browser_is_recognized_by_its_origin(operator: Browser, house: House) -> None:
    approval = await house.park()
    path = f"/console/approvals/{approval.id}/deny"
    answer = await operator.submit(path, headers={"Origin": HERE}, form_token=await operator.form_token())
    assert answer.status_code == 303
    assert await house.status(approval) == "denied"


@pytest.mark.parametrize("verb", ["approve", "deny"])
async def test_no_method_but_post_decides(operator: Browser, house: House, verb: str) -> None:
    approval = await house.park()
    path = f"/console/approvals/{approval.id}/{verb}"
    form = {"form_token": await operator.form_token(), "name": "GitHub"}
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = await operator.request(method, path, params=form, headers=OWN)
        assert answer.status_code in (404, 405)
    assert await house.status(approval) == "pending"


async def test_a_form_is_accepted_only_as_a_form_in_the_body(operator: Browser, house: House) -> None:
    approval = await house.park()
    path, token = f"/console/approvals/{approval.id}/deny", await operator.form_token()
    assert (await operator.post(path, params={"form_token": token}, headers=OWN)).status_code == 400
    assert (await operator.post(path, json={"form_token": token}, headers=OWN)).status_code == 400
    assert (await operator.submit(path, form_token=token, reason="x" * 20_000)).status_code == 413
    assert await house.status(approval) == "pending"


async def test_without_a_session_a_form_decides_nothing(operator: Browser, house: House) -> None:
    approval = await house.park()
    token = await operator.form_token()
    operator.cookies.clear()
    answer = await operator.submit(f"/console/approvals/{approval.id}/deny", form_token=token)
    assert answer.headers["location"].startswith("/console/login")
    assert await house.status(approval) == "pending"


async def test_a_call_is_decided_once(operator: Browser, house: House) -> None:
    approval = await house.park()
    await operator.decide(approval, "deny")
    again = await operator.decide(approval, "approve", name="GitHub")
    assert again.status_code == 409
    assert "Your decision was not saved" in again.text
    assert "is denied by operator alice" in again.text
    assert '<form method="post" action="/console/approvals' not in again.text
    assert await house.status(approval) == "denied"


async def test_if_two_operators_decide_at_once_the_second_is_told(operator: Browser, house: House) -> None:
    approval = await house.park()
    path, token = f"/console/approvals/{approval.id}", await operator.form_token()
    statuses: list[int] = []

    async def decide(verb: str) -> None:
        statuses.append((await operator.submit(f"{path}/{verb}", form_token=token, name="GitHub")).status_code)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(decide, "approve")
        tasks.start_soon(decide, "deny")
    assert sorted(statuses) == [303, 409]


async def test_an_expired_call_is_not_decided(operator: Browser, house: House) -> None:
    approval = await house.park()
    token = await operator.form_token()
    for seconds in (1_790, 1_790, 60):
        await operator.get("/console")
        house.clock.now += seconds
    answer = await operator.submit(f"/console/approvals/{approval.id}/deny", form_token=token)

    assert answer.status_code == 409
    assert "expired before it was decided" in answer.text
    assert (await house.approvals.history()).approvals == ()


async def test_an_approved_call_that_expired_is_not_said_to_run(operator: Browser, house: House) -> None:
    approval = await house.park()
    await house.approvals.decide(approval.id, True, "operator bob")
    for seconds in (1_790, 1_790, 60):
        await operator.get("/console")
        house.clock.now += seconds
    text = (await operator.get(f"/console/approvals/{approval.id}")).text

    assert "it expired. It was approved by <bdi>operator bob</bdi>" in text
    assert "runs once" not in text
    assert '<span class="tag tag-expired">expired</span>' in (await operator.get("/console/history")).text


async def test_an_unknown_call_is_not_found(operator: Browser) -> None:
    answer = await operator.get("/console/approvals/ap-222222")
    assert answer.status_code == 404
    assert "No parked call has this id" in answer.text


async def test_text_from_platforms_is_shown_as_text(operator: Browser, house: House) -> None:
    members = dict.fromkeys(("target", "effect", "principal", "client", "profile"), HOSTILE)
    diff = (Change(field=HOSTILE, before=HOSTILE, after=[HOSTILE]),)
    approval = await house.park(losses=(HOSTILE,), diff=diff, arguments={HOSTILE: {"deep": HOSTILE}}, **members)
    await house.record(dict.fromkeys(("tool", "outcome", "principal", "client", "decided_by"), HOSTILE))
    path = f"/console/approvals/{approval.id}"
    before = [(await operator.get(page)).text for page in ("/console", path, "/console/calls")]
    await operator.submit(f"{path}/deny", form_token=await operator.form_token(), reason=HOSTILE)
    after = [(await operator.get(page)).text for page in (path, "/console/history")]
    searched = (await operator.get("/console/calls", params={"tool": HOSTILE, "outcome": HOSTILE})).text

    for text in (*before, *after, searched):
        assert "&lt;script&gt;alert(1)" in text
        assert "{{ 7*7 }}" in html.unescape(text)
        assert "<script>alert" not in text
        assert "<img" not in text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e]", text)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("Acme", "Ac\u200bme", "contains invisible characters"),
        (None, "a" * 5_000, "cut: 1000 more characters are not shown"),
    ],
    ids=["invisible characters", "too long"],
)
async def test_a_value_that_cannot_be_shown_as_it_is_is_marked(operator, house: House, before, after, told) -> None:
    approval = await house.park(deletes=False, diff=(Change(field="name", before=before, after=after),))
    text = (await operator.get(f"/console/approvals/{approval.id}")).text
    assert text.count(told) == 1
