"""What an installation begins with: its topics and the default triggers, and what a later start leaves alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from emergency_stop.adapters.embedded_broker import free_port
from emergency_stop.adapters.kafka_topics import describe_topics
from emergency_stop.apps.preparation import PreparationError, Prepared, prepare_topics
from emergency_stop.config import EXIT_CONFIG, Settings
from emergency_stop.control.cli.main import main
from emergency_stop.control.errors import EXIT_OK
from emergency_stop.control.installation import Installation
from emergency_stop.domain.default_triggers import default_pack
from emergency_stop.domain.topics import TRIGGERS
from emergency_stop.domain.triggers import Trigger
from emergency_stop.testing.brokers import EmbeddedBroker
from emergency_stop.wire.registry_http import RegistryError

pytestmark = pytest.mark.needs("broker")
INIT = Path(__file__).parents[2] / "deploy" / "init.py"
PACK = {trigger.trigger_id for trigger in default_pack(0)}


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Of an installation whose broker has no topic yet."""
    with EmbeddedBroker(tmp_path) as running:
        yield Settings(brokers=running.bootstrap, data_dir=tmp_path)


def in_force(settings: Settings) -> set[str]:
    async def read() -> set[str]:
        installation = Installation(settings)
        async with installation.following(TRIGGERS):
            return {one.trigger_id for one in installation.all_of(TRIGGERS, Trigger) if not one.removed}

    return asyncio.run(read())


def init(settings: Settings, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **settings.as_env(), **more}
    return subprocess.run(
        [sys.executable, INIT], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_new_installation_gets_the_default_pack_and_an_operator_s_removal_stands(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = {"ESTOP_SIGNING_KEY_FILE": str(tmp_path / "signing.pem")}
    first = init(settings, **keys)
    assert first.returncode == EXIT_OK, first.stderr
    assert f"triggers: {len(PACK)} of the default pack" in first.stdout
    assert in_force(settings) == PACK

    monkeypatch.setenv("ESTOP_BROKERS", settings.brokers)
    assert main(["triggers", "remove", "default-detection"]) == EXIT_OK
    again = init(settings, **keys)
    assert again.returncode == EXIT_OK, again.stderr
    assert "topics: 0 created" in again.stdout
    assert "triggers: 0 of the default pack" in again.stdout
    assert in_force(settings) == PACK - {"default-detection"}


def test_what_fails_before_the_pack_leaves_it_to_the_next_start(settings: Settings) -> None:
    def refuse() -> None:
        raise RegistryError("not there yet")

    with pytest.raises(RegistryError):
        asyncio.run(prepare_topics(settings, 1, refuse))
    assert asyncio.run(describe_topics(settings.brokers, [TRIGGERS])) == {}
    found = asyncio.run(prepare_topics(settings, 1))
    assert found == Prepared((TRIGGERS,), len(PACK))
    assert in_force(settings) == PACK


def test_a_pack_that_cannot_be_written_is_told_with_the_way_to_write_it(settings: Settings) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(PreparationError, match="estop triggers add --default-pack"):
        asyncio.run(prepare_topics(Settings(brokers=settings.brokers, registry_url=nobody), 1))


def test_wrong_settings_end_it_with_the_code_for_that() -> None:
    ended = init(Settings(), MAX_CPU_USAGE="much")
    assert ended.returncode == EXIT_CONFIG
    assert "init: MAX_CPU_USAGE='much' is not a whole number" in ended.stderr
    assert "Traceback" not in ended.stderr
