"""What most tests on real parts begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from emergency_stop.testing.brokers import EmbeddedBroker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded broker that a file of tests has to itself."""
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as running:
        yield running.bootstrap
