"""``python -m tests.erasure [--short]``: is anything of an erased account readable, anywhere, with all that is left?

Accounts send sealed telemetry to a real broker; a sink stores it. Topics and tables are backed up. Then some accounts
are erased, one by a command that is killed again and again, and the master key is rotated. Whoever holds everything
that is left (topics with every record they ever had, tables, both backups, all keys) tries every key on every text.
Prints one line of JSON; 0 if nothing of the erased opens, all of the others does, and nothing ever was in the clear.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final
from unittest import mock

from emergency_stop.adapters import account_keys
from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.control.cli import privacy_masters
from emergency_stop.control.privacy.rows import count_rows, tables_of
from emergency_stop.wire.privacy_keys import PrivacyKeys
from tests.erasure.attack import TOPICS_AND_TABLES, Found, Loot, Verdict, attack
from tests.erasure.plant import CANARY, Plant, say

SEED_MAX: Final = 1 << 30
ACCOUNTS: Final = 24
ERASED: Final = 10
ERASED_SHORT: Final = 4
EVENTS: Final = 40
EVENTS_SHORT: Final = 4
#: How often the first erasing command is killed, and after how many seconds: it takes one to four.
KILLS: Final = 10
KILLS_SHORT: Final = 3
KILL_AFTER_S: Final = (0.6, 3.2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.erasure", description=__doc__)
    parser.add_argument("--short", action="store_true", help="few events of each account, few erased")
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--erased", type=int, help=f"{ERASED}, or {ERASED_SHORT} where it is short")
    parser.add_argument("--seed", type=int, default=os.environ.get("SEED") or random.randrange(SEED_MAX))
    options = parser.parse_args()
    say(f"seed {options.seed}")
    events, kills, erased = (EVENTS_SHORT, KILLS_SHORT, ERASED_SHORT) if options.short else (EVENTS, KILLS, ERASED)
    with tempfile.TemporaryDirectory(prefix="estop-erasure-") as name:
        erased = options.erased or erased
        campaign = Campaign(Path(name), options.seed, options.accounts, erased, kills, short=options.short)
        report = campaign.run(events)
    print(json.dumps(report))
    return 0 if is_proven(report) else 1


def is_proven(report: dict[str, Any]) -> bool:
    """What must hold; the attack itself must have been able to read everything before."""
    return bool(
        report["readable_after"] == report["in_the_clear"] == report["rows_left"] == 0
        and report["others_readable"] == report["others_fields"] > 0
        and report["readable_before"] == report["fields"] > 0
        and report["new_readable"] == report["new_fields"] > 0
    )


class Campaign:
    def __init__(self, folder: Path, seed: int, accounts: int, erased: int, kills: int, *, short: bool) -> None:
        self._folder, self._seed, self._kills, self._short = folder, seed, kills, short
        # Ids that begin with one another: what is one's must not pass for the other's.
        self._accounts = [f"acc-{number}" for number in range(accounts)]
        self._erased = set(random.Random(seed).sample(self._accounts, erased))

    def run(self, events: int) -> dict[str, Any]:
        key_file = self._folder / "privacy.json"
        PrivacyKeys.generate(1_000).save(key_file, replace=False)
        # A busy machine's broker may take longer than one in production ever should.
        patient = mock.patch.multiple(account_keys, FIRST_WAIT_MS=60_000, KEY_WAIT_MS=60_000)
        # Nobody seals while master keys are rotated, so a short run need not wait for who might.
        hasty = mock.patch.object(privacy_masters, "TAKEN_OVER_MS", 1) if self._short else contextlib.nullcontext()
        with patient, hasty, Plant(self._folder, random.Random(self._seed)) as plant:
            self._live(plant, events)
            plant.stop_sink()
            topics, tables = plant.back_up_topics(), plant.back_up_tables()
            before = self._loot(plant, topics, tables)
            say(f"{len(before.found)} sealed texts, {len(before.wrapped)} records of keys; both are backed up")
            readable_before = attack(self._of_erased(before), before.keys(PrivacyKeys.load(key_file)))
            self._check_opened(plant, readable_before)
            self._erase(plant)
            unshredded = attack(self._of_erased(before), before.keys(PrivacyKeys.load(key_file)))
            say(f"before the master key is destroyed, old copies give back {len(unshredded.opened)} texts")
            assert plant.privacy("status")["unshredded"] == len(self._erased)
            rotated = plant.privacy("rotate-master")
            assert len(rotated["master_keys"]) == 1, rotated
            assert plant.privacy("status")["unshredded"] == 0
            plant.tell(sorted(self._erased)[:2], 2)
            after = self._loot(plant, topics, tables)
            return self._report(plant, before, after, readable_before, unshredded) | {"seed": self._seed}

    def _live(self, plant: Plant, events: int) -> None:
        """A life: events, a new key for some accounts, a new master key beside the old one, events, decisions."""
        say(f"{len(self._accounts)} accounts send telemetry")
        plant.tell(self._accounts, events)
        for account in self._accounts[::5]:
            assert plant.privacy("rotate-account", account, "--reason", "a key leaked")["version"] == 2
        plant.privacy("rotate-master", "--step", "add")
        assert plant.privacy("rotate-master", "--step", "rewrap")["rewrapped"] >= len(self._accounts)
        plant.tell(self._accounts, events)
        plant.decide(self._accounts)
        plant.until_stored()
        self._check_exports(plant, self._accounts[:2])  # while the sink has the database open

    def _erase(self, plant: Plant) -> None:
        """Each by the command; the first one by commands that are killed, and then once more."""
        rng = random.Random(self._seed + 1)
        for number, account in enumerate(sorted(self._erased)):
            arguments = ("erase", account, "--reason", "asked to be forgotten", "--by", "dpo")
            if number == 0:
                times = [rng.uniform(*KILL_AFTER_S) for _ in range(self._kills)]
                killed = sum(plant.command_killed(after_s, "privacy", *arguments) for after_s in times)
                say(f"erasing {account}: killed {killed} of {self._kills} times")
            said = plant.privacy(*arguments)
            assert number == 0 or said["keys"] in (1, 2), said
            assert said["not_stored"] == 0, said
            assert not said["shredded"], "the master key of its backups is there still"
            again = plant.privacy(*arguments)
            assert (again["keys"], again["rows"]) == (0, {}), f"repeating an erasure finds nothing: {again}"
            lines = plant.estop("privacy", "export", account).splitlines()
            assert {json.loads(line)["table"] for line in lines} == {"audit"}, "only the audit is kept"
        say(f"{len(self._erased)} accounts are erased")

    def _loot(self, plant: Plant, topics: dict[str, Any], tables: Path) -> Loot:
        """Everything, live and in the backups. The backup is opened as a copy: opening it must not change it."""
        loot = Loot()
        loot.take_topics("topics", plant.back_up_topics())
        loot.take_tables("tables", plant.settings.data_dir)
        loot.take_topics("backup of topics", topics)
        opened = self._folder / "opened"
        shutil.copytree(tables, opened, symlinks=True)
        loot.take_tables("backup of tables", opened)
        shutil.rmtree(opened)
        return loot

    def _of_erased(self, loot: Loot) -> list[Found]:
        return [one for one in loot.found if one.place.account_id in self._erased]

    def _check_opened(self, plant: Plant, verdict: Verdict) -> None:
        """What the attack reads is what was sent: it does not count noise."""
        sent = {(account, text) for account, texts in plant.secrets.items() for text in texts}
        assert set(verdict.opened) <= sent
        assert {account for account, _ in verdict.opened} == self._erased

    def _report(
        self, plant: Plant, before: Loot, after: Loot, readable: Verdict, unshredded: Verdict
    ) -> dict[str, Any]:
        keys = after.keys(PrivacyKeys.load(plant.key_file))
        known = {one.text for one in before.found}
        erased = [one for one in self._of_erased(after) if one.text in known]
        fresh = [one for one in self._of_erased(after) if one.text not in known]
        others = [one for one in after.found if one.place.account_id not in self._erased]
        told = Counter(one.where for one in erased)
        mine, theirs, new = (attack(found, keys) for found in (erased, others, fresh))
        # In tables nothing is left of them, so what is tried there is what the backup has.
        assert set(told) == set(TOPICS_AND_TABLES) - {"tables"}, told
        self._check_exports(plant, sorted(set(self._accounts) - self._erased)[:3])
        return {
            "fields": sum(readable.fields.values()),
            "readable_before": len(readable.opened),
            "fields_tried_after": sum(told.values()),
            "readable_after": len(mine.opened),
            "readable_until_master_destroyed": len(unshredded.opened),
            "others_fields": len(others),
            "others_readable": len(theirs.opened),
            "new_fields": len(fresh),
            "new_readable": len(new.opened),
            "rows_left": self._rows_left(plant),
            "in_the_clear": len(before.clear) + len(after.clear),
            "accounts": len(self._accounts),
            "erased": len(self._erased),
            "keys_tried": len(keys),
        }

    def _rows_left(self, plant: Plant) -> int:
        database = ClickHouse(None, plant.settings.data_dir)
        try:
            return sum(
                count_rows(database.rows, table)
                for account in self._erased
                for table in tables_of(database.rows, account, audit=False)
            )
        finally:
            database.close()

    def _check_exports(self, plant: Plant, accounts: list[str]) -> None:
        """What is not erased comes out opened, whole, and nobody else's is among it."""
        for account in accounts:
            lines = [json.loads(line) for line in plant.estop("privacy", "export", account).splitlines()]
            texts = [text for line in lines for text in line["row"].values() if CANARY in str(text)]
            assert Counter(texts) == Counter(plant.secrets[account]), account
            assert not any("closed" in line for line in lines)
            assert all(line["row"].get("account_id", account) == account for line in lines)
            assert {"audit", "dead_letters", "health_events"} <= {line["table"] for line in lines}


if __name__ == "__main__":
    raise SystemExit(main())
