"""``estop audit``: what it says and returns, without a database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emergency_stop.control.cli.main import main
from emergency_stop.domain.messages import AuditHead
from emergency_stop.wire.audit_file import Item, export_lines, head_line
from tests.unit.wire.audit_log import SIGNER, audit


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ESTOP_DATA_DIR", str(tmp_path / "data"))
    path = tmp_path / "keys.pem"
    path.write_bytes(SIGNER.public_pem())
    monkeypatch.setenv("ESTOP_AUDIT_KEYS_FILE", str(path))
    return path


def written(path: Path, items: list[Item]) -> str:
    path.write_text("".join(export_lines(items)), encoding="utf-8")
    return str(path)


@pytest.mark.usefixtures("keys")
def test_a_whole_export_is_verified_with_nothing_but_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", written(tmp_path / "a.jsonl", audit()), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["verified"] is True
    assert [one["records"] for one in said["partitions"]] == [8]


@pytest.mark.usefixtures("keys")
def test_a_broken_one_says_what_is_wrong_and_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = audit()
    del items[5]
    assert main(["audit", "verify", written(tmp_path / "a.jsonl", items)]) == 1
    said = capsys.readouterr().out
    assert "estop.audit, partition 0, offset 3: gap: expected offset 2 next" in said


@pytest.mark.usefixtures("keys")
def test_heads_that_were_kept_elsewhere_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heads = tmp_path / "heads.jsonl"
    heads.write_text("".join(head_line(item) for item in audit() if isinstance(item, AuditHead)))
    older = written(tmp_path / "older.jsonl", audit(6, (3, 6)))
    assert main(["audit", "verify", older]) == 0
    assert main(["audit", "verify", older, "--heads", str(heads)]) == 1
    assert "witness_missing" in capsys.readouterr().out


def test_a_file_that_was_cut_is_broken(keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(written(tmp_path / "a.jsonl", audit()))
    path.write_bytes(path.read_bytes()[:-20])
    assert main(["audit", "verify", str(path), "--keys", str(keys)]) == 1
    assert capsys.readouterr().out.startswith("BROKEN  line ")


def test_what_cannot_be_done_says_why(keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, code, why in (
        (["verify"], 65, "either FILE or --database"),
        (["verify", str(tmp_path / "none")], 65, "cannot be read"),
        (["verify", str(keys), "--keys", str(tmp_path / "none.pem")], 78, "ESTOP_AUDIT_KEYS_FILE"),
    ):
        assert main(["audit", *arguments]) == code
        assert why in capsys.readouterr().err
