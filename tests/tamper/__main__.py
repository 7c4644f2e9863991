"""``python -m tests.tamper [--short]``: is every tampering with an audit found, and nothing where nobody tampered?

A sink that is killed twice stores a real audit; its export and its database are then tampered with, N times in each
way. Prints one line of JSON; 0 if all were found and no untouched audit was called broken.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from emergency_stop.adapters.audit_ledger import AuditReader
from emergency_stop.adapters.clickhouse import ClickHouse
from emergency_stop.apps.sink.audit_key import audit_keys_file
from emergency_stop.domain.messages import AuditHead
from emergency_stop.wire.audit_file import AuditFileError, Item, read_export, read_heads
from emergency_stop.wire.audit_verify import Verification
from emergency_stop.wire.signing import Verifier
from tests.tamper import on_database, on_file
from tests.tamper.plant import RECORDS_PER_SCOPE, Plant, verified

SEED_MAX = 1 << 30
SCOPES = 60
EACH_SHORT = 5
DATABASE_IS_SLOWER = 20
BATCHES = 6
#: Batches during which the sink is killed.
KILLS = (2, 4)
#: Before these are stored with all that belongs to them.
AMID_POLL_S = 0.02


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tamper", description=__doc__)
    parser.add_argument("--short", action="store_true", help="few tampers of each kind")
    parser.add_argument(
        "--each", type=int, default=100, metavar="N", help="tampers of each kind; a twentieth of them in the database"
    )
    parser.add_argument("--seed", type=int, default=os.environ.get("SEED") or random.randrange(SEED_MAX))
    options = parser.parse_args()
    _say(f"seed {options.seed} (SEED={options.seed} repeats the places that are tampered with)")
    each = EACH_SHORT if options.short else options.each
    per_database_kind = max(each // DATABASE_IS_SLOWER, 1)
    with tempfile.TemporaryDirectory(prefix="estop-tamper-") as name:
        report = Campaign(Path(name), options.seed).run(each, per_database_kind)
    print(json.dumps(report | {"seed": options.seed}))
    return 0 if report["found"] == report["tampers"] and not report["false_alarms"] else 1


class Campaign:
    """Counts what was tampered with, what was found, and false alarms."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._tampers: Counter[str] = Counter()
        self._found: Counter[str] = Counter()
        self._clean = 0
        self._false_alarms = 0
        self._verifier = Verifier()
        self._witnesses: list[AuditHead] = []

    def run(self, per_file_kind: int, per_database_kind: int) -> dict[str, object]:
        audit, database = self._real_audit()
        partitions = {item.partition for item in audit.items}
        _say(f"{len(audit.records())} records and {len(audit.heads())} heads in {len(partitions)} partitions")
        for tamper in on_file.KINDS:
            for number in range(per_file_kind):
                rng = random.Random(f"{self._seed} {tamper.__name__} {number}")
                self._judge(tamper.__name__, self._file_is_whole(tamper(rng, audit)), number)
        for kind in on_database.KINDS:
            for number in range(per_database_kind):
                rng = random.Random(f"{self._seed} {kind} {number}")
                with on_database.tampered(database, kind, rng):
                    self._judge(kind, self._is_whole(AuditReader(database.rows).items()), number)
        self._untouched(self._is_whole(AuditReader(database.rows).items()), "the database after all")
        database.close()
        return {
            "tampers": self._tampers.total(),
            "found": self._found.total(),
            "kinds": {kind: f"{self._found[kind]}/{count}" for kind, count in self._tampers.items()},
            "records": len(audit.records()),
            "untouched": self._clean,
            "false_alarms": self._false_alarms,
        }

    def _real_audit(self) -> tuple[on_file.Audit, ClickHouse]:
        """Decisions in batches, an export after the first, ``kill -9`` amid two of them, and a last export."""
        with Plant(self._folder) as plant:
            for batch in range(BATCHES):
                before = plant.sent
                plant.decide(batch * SCOPES // BATCHES, SCOPES // BATCHES)
                if batch in KILLS:
                    plant.until(_stored_at_least(plant, before + 1), "the first of these", AMID_POLL_S)
                    plant.sink.kill()
                plant.until(lambda: plant.covered() == plant.sent, f"heads cover {plant.sent} records")
                if batch == 0:
                    self._export(plant, "older.jsonl", ["--json"])
            plant.leave()
            assert plant.sink.starts == 1 + len(KILLS)
            assert plant.sent == SCOPES * RECORDS_PER_SCOPE + BATCHES
            last = self._export(plant, "last.jsonl", ["--heads", str(plant.heads_file), "--json"])
            self._untouched(
                _says_whole(plant, "--database", "--heads", str(plant.heads_file), "--json"), "the database"
            )
            self._verifier = Verifier.load(audit_keys_file(plant.settings))
            with plant.heads_file.open("rb") as lines:
                self._witnesses = read_heads(lines)
            older = _read(self._folder / "older.jsonl")
            return on_file.Audit(last, older), ClickHouse(None, plant.settings.data_dir)

    def _export(self, plant: Plant, name: str, arguments: list[str]) -> list[Item]:
        """Export while the sink runs, or after it, and verify at once: nobody tampered."""
        path = self._folder / name
        code, said = plant.audit("export", str(path))
        assert code == 0, said
        # What has no head yet is no false alarm, but a partition without any would be told: a sink signs at once.
        self._untouched(_says_whole(plant, str(path), *arguments), name)
        return _read(path)

    def _untouched(self, whole: bool, what: str) -> None:
        self._clean += 1
        if not whole:
            self._false_alarms += 1
            _say(f"FALSE ALARM: {what}")

    def _judge(self, kind: str, whole: bool, number: int) -> None:
        self._tampers[kind] += 1
        if whole:
            _say(f"NOT FOUND: {kind} {number}")
        else:
            self._found[kind] += 1

    def _file_is_whole(self, text: bytes) -> bool:
        try:
            return self._is_whole(read_export(text.splitlines(keepends=True)))
        except AuditFileError:
            return False

    def _is_whole(self, items: Iterable[Item]) -> bool:
        verification = Verification(self._verifier, self._witnesses)
        for item in items:
            verification.take(item)
        return not any(verdict.breaks for verdict in verification.finish())


def _stored_at_least(plant: Plant, count: int) -> Callable[[], bool]:
    return lambda: plant.stored() >= count


def _says_whole(plant: Plant, *arguments: str) -> bool:
    code, said = plant.audit("verify", *arguments)
    whole = code == 0 and verified(said)["verified"] is True
    if not whole:
        _say(said)
    return whole


def _read(path: Path) -> list[Item]:
    with path.open("rb") as lines:
        return list(read_export(lines))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
