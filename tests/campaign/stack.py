"""Everything a campaign runs on: Apache Kafka, topics, triggers, and the commands of the children."""

from __future__ import annotations

CHILDREN = {
    "detector-a": "detector",
    "detector-b": "detector",
    "coordinator": "coordinator",
    "sink": "sink",
    "services": "services",
}
