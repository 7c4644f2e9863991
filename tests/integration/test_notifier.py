"""The notifier as a process: what people hear of, what they do not, and what happens where nobody proves a stop."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
import random
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from emergency_stop.control.errors import EXIT_BAD_INPUT
from emergency_stop.domain.ids import emergency_id, hit_cause
from emergency_stop.domain.messages import Emergency, Notice, Silence
from emergency_stop.domain.values import EmergencyState, NoticeKind, StopLevel
from emergency_stop.testing.brokers import EmbeddedBroker
from tests.integration.coordinator_office import CoordinatorOffice, now_ms, until
from tests.integration.notifier_office import NotifierOffice
from tests.unit.coordinate.scenario import hit
from tests.unit.notifier.test_last_resort import emergency

pytestmark = pytest.mark.needs("broker")
PAGE, WARNING, INFO = NoticeKind.PAGE, NoticeKind.WARNING, NoticeKind.INFO


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[NotifierOffice]:
    """A broker of its own: a last resort looks at every emergency that there is."""
    (tmp_path / "broker").mkdir()
    with EmbeddedBroker(tmp_path / "broker") as broker:
        async with NotifierOffice(broker.bootstrap, tmp_path) as opened:
            yield opened


def notice(notice_id: str, kind: NoticeKind = PAGE, scope: str = "account:a", **changes: object) -> Notice:
    told = Notice(notice_id, kind, now_ms(), f"subject of {notice_id}", "text", scope, "corr")
    return dataclasses.replace(told, **changes)  # type: ignore[arg-type]  # a test's shorthand


def metrics(office: NotifierOffice) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{office.health_port}/metrics", timeout=30) as answer:
        return str(answer.read().decode())


async def test_a_stop_without_proof_is_a_page_by_all_channels_and_comes_to_the_last_resort_once(
    office: NotifierOffice, tmp_path: Path
) -> None:
    """Nobody serves alpha and beta: the stop ends PARTIAL, by the coordinator's own doing. E-mail is out at first."""
    office.mail.accepts = False
    office.http.answers["/revoke"] = 503
    office.start()
    (tmp_path / "coordinator").mkdir()
    async with CoordinatorOffice(office.brokers, tmp_path / "coordinator") as coordinator:
        coordinator.start(IMMEDIATE_STOP_TIMEOUT="500")
        await coordinator.send(hit("h1", "account:a", occurred_at=now_ms(), level=StopLevel.IMMEDIATE))
        wanted = emergency_id(hit_cause("h1"))
        await until(lambda: _is_partial(coordinator.emergency(wanted)), "without proof", 60)
        # people are told last: a coordinator that is killed before it told leaves that to its successor
        await until(lambda: [one for one in office.notices if one.kind is PAGE], "the page")
    page = next(one for one in office.notices if one.kind is PAGE)
    assert page.emergency_id == wanted
    await until(lambda: page.notice_id in office.http.notices(), "the webhook has the page, though e-mail is out")
    assert office.mail.mails == []
    office.mail.accepts = True
    await until(lambda: any("NOT PROVEN" in mail["Subject"] for mail in office.mail.mails), "e-mail has it too", 60)
    mail = next(mail for mail in office.mail.mails if "NOT PROVEN" in mail["Subject"])
    assert mail["To"] == "ann@example.org, bob@example.org"
    assert mail["Importance"] == "high"
    assert "alpha/-, beta/-" in mail.get_content()
    assert "[PAGE] immediate stop of account:a is NOT PROVEN" in office.log(), "and so has the log"

    await until(lambda: office.http.refused, "the last resort is tried")
    office.http.answers["/revoke"] = 200
    await until(lambda: office.http.to("/revoke"), "and tried again", 60)
    await until(lambda: len([one for one in office.notices if one.kind is PAGE]) == 2, "its outcome is a page")
    outcome = next(one for one in reversed(office.notices) if one.kind is PAGE)
    assert outcome.subject == "last resort for account:a was carried out"
    await until(lambda: outcome.notice_id in office.http.notices(), "which is told")
    await until(lambda: [one.action for one in office.audit].count("last_resort_done") == 1, "and on record")
    (post,) = office.http.to("/revoke")
    assert {one.key for one in office.http.refused} == {post.key} == {wanted}
    assert (post.document["account_id"], post.document["services_unproven"]) == ("a", ["alpha", "beta"])
    assert post.document["correlation_id"] == page.correlation_id
    assert Counter(office.http.notices()).most_common(1)[0][1] == 1, "nothing was told twice"
    assert office.http.bad_signatures == 0
    await until(lambda: 'estop_last_resort_total{outcome="done"} 1.0' in metrics(office), "counted")


def _is_partial(found: Emergency | None) -> bool:
    return found is not None and found.state is EmergencyState.PARTIAL


async def test_through_kills_no_page_is_lost_and_no_last_resort_left_out(office: NotifierOffice) -> None:
    """Forty pages and ten emergencies without proof; the process dies while it tells of them, four times."""
    seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 30)))
    print(f"seed {seed} (set SEED to repeat)")
    rng, pages = random.Random(seed), [f"p{number}" for number in range(40)]
    for batch in range(4):
        office.start()
        told_before = len(office.http.posts)
        for number in range(batch * 10, batch * 10 + 10):
            await office.write(notice(pages[number]))
            if number % 4 == 0:
                await office.write(emergency(f"e{number}"))
        await until(partial(_has_posts, office, told_before + 1), "at work", 60)
        await asyncio.sleep(rng.random() * 0.3)
        office.kill()
    office.start()
    wanted = {f"e{number}" for number in range(0, 40, 4)}
    await until(lambda: {*office.http.notices()} >= {*pages}, "every page is told", 60)
    await until(lambda: _mailed(office) >= {*pages}, "by e-mail too", 60)
    await until(lambda: {post.key for post in office.http.to("/revoke")} == wanted, "every last resort", 60)
    outcomes = {"last resort for account:a was carried out"}
    await until(lambda: _resorted(office) == wanted, "each is on record", 60)
    await until(lambda: {one.subject for one in office.notices if one.notice_id not in pages} == outcomes, "is told")
    await until(lambda: {*office.http.notices()} == {one.notice_id for one in office.notices}, "all is told", 60)


def _has_posts(office: NotifierOffice, count: int) -> bool:
    return len(office.http.posts) >= count


def _is_counted(office: NotifierOffice, sample: str) -> bool:
    return sample in metrics(office)


def _mailed(office: NotifierOffice) -> set[str]:
    texts = "\n".join(mail.get_content() for mail in office.mail.mails)
    return {line.partition("subject of ")[2] for line in texts.splitlines() if "subject of " in line}


def _resorted(office: NotifierOffice) -> set[str]:
    return {one.subject for one in office.audit if one.action == "last_resort_done"}


async def test_what_is_silenced_or_inhibited_is_not_told_and_says_why(office: NotifierOffice) -> None:
    office.start()
    now = now_ms()
    await office.write(Silence("s1", "ann", "planned work", now - 1_000, now + 600_000, trigger_id="t1"))
    await office.write(Silence("s2", "", "nobody's", now - 1_000, now + 600_000))
    await office.write(dataclasses.replace(emergency("e1", EmergencyState.STOPPING), scope="global", account_id=None))
    await office.write(notice("everything", WARNING, "global", emergency_id="e1"))
    await until(lambda: "everything" in office.http.notices(), "the wider one is told", 60)
    await office.write(notice("silenced", PAGE, trigger_id="t1"))
    await office.write(notice("inhibited", WARNING))
    await office.write(notice("told", PAGE, trigger_id="t2"))
    await until(lambda: "told" in office.http.notices(), "the page is told")
    await until(
        lambda: 'estop_notices_hidden_total{channel="webhook",reason="inhibited"} 1.0' in metrics(office), "hid"
    )
    assert sorted(office.http.notices()) == ["everything", "told"]
    for channel in ("system", "email", "webhook"):
        hidden = f'estop_notices_hidden_total{{channel="{channel}",reason="silenced"}} 1.0'
        await until(partial(_is_counted, office, hidden), hidden)
    counted = metrics(office)
    assert 'estop_notifier_unreadable_total{topic="estop.silences"} 1.0' in counted
    assert "silenced by s1 of ann: planned work" in office.log()
    assert "inhibited by everything" in office.log()


async def test_a_second_notifier_stands_by_and_takes_over(office: NotifierOffice) -> None:
    office.start()
    await office.write(notice("first"))
    await until(lambda: "first" in office.http.notices(), "told", 60)
    office.start(ESTOP_INSTANCE_ID="n2", ESTOP_METRICS_PORT="0")
    await until(lambda: "standing by" in office.log(), "the second stands by", 60)
    office.kill("n1")
    await office.write(notice("second"))
    await until(lambda: "second" in office.http.notices(), "told by the other", 60)
    assert Counter(office.http.notices())["first"] == 1


async def test_an_operator_silences_and_sees_what_was_to_be_told(office: NotifierOffice) -> None:
    office.start()
    added = await office.types("silence", "add", "--reason", "planned work", "--for", "2h", "--scope", "account:a",
                               "--by", "ann", "--json")  # fmt: skip
    assert added.returncode == 0, added.stderr
    silence = json.loads(added.stdout)
    assert (silence["author"], silence["expires_at"] - silence["starts_at"]) == ("ann", 7_200_000)
    listed = await office.types("silence", "list")
    assert "scope account:a" in listed.stdout
    written = await _write_until_hidden(office)

    mistaken = await office.types("silence", "remove", silence["silence_id"][:-4] + "zzzz")
    assert mistaken.returncode == EXIT_BAD_INPUT
    assert f"did you mean '{silence['silence_id']}'?" in mistaken.stderr
    unknown = await office.types(
        "silence", "add", "--reason", "x", "--for", "2h", "--trigger", "builtin-account-suspensio"
    )
    assert unknown.returncode == EXIT_BAD_INPUT
    assert "did you mean 'builtin-account-suspension'?" in unknown.stderr, unknown.stderr
    removed = await office.types("silence", "remove", silence["silence_id"][:8])
    assert removed.returncode == 0, removed.stderr
    assert "No silence is in force" in (await office.types("silence", "list")).stdout
    assert {one.action for one in office.audit} == {"silence_added", "silence_removed"}

    told = json.loads((await office.types("notices", "--json")).stdout)
    assert [one["notice_id"] for one in told] == [f"silent-{number}" for number in range(written)][-20:]
    assert f"subject of silent-{written - 1}" in (await office.types("notices", "--kind", "page")).stdout
    assert "There are no notices." in (await office.types("notices", "--kind", "info")).stdout


async def _write_until_hidden(office: NotifierOffice) -> int:
    """The notifier reads of a silence soon, not at once. How many notices it took."""
    deadline = time.monotonic() + 60
    for number in itertools.count():
        assert time.monotonic() < deadline, "nothing was ever silenced"
        await office.write(notice(f"silent-{number}"))
        await until(partial(_is_settled, office, f"silent-{number}"), "told or hidden")
        if "silenced by" in office.log():
            return number + 1
    raise AssertionError("unreachable")


def _is_settled(office: NotifierOffice, notice_id: str) -> bool:
    return notice_id in office.http.notices() or f"({notice_id}): silenced by" in office.log()
