"""``estop produce``: seeded, plausible telemetry, incidents and bad input on request, replay of a file."""

from emergency_stop.apps.produce.run import ProduceOptions, run_produce

__all__ = ["ProduceOptions", "run_produce"]
