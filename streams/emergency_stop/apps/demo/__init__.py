"""``estop demo``: the main job told as a story, and judged by what consumers and ClickHouse saw."""

from emergency_stop.apps.demo.story import run_demo

__all__ = ["run_demo"]
