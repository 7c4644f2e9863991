"""``estop report``: the analysts' views in the terminal, as a page, or as JSON. Writes nothing into ClickHouse."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.config import Settings
from emergency_stop.control.cli.output import moment, say, show_json
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_OK
from emergency_stop.control.report import page, terminal
from emergency_stop.control.report.sections import SECTIONS, Period, ask
from emergency_stop.control.report.source import opened

#: As the coordinator has it: an instance that misses three heartbeats counts as lost.
_BEATS_MISSED = 3


def run_report(options: argparse.Namespace, settings: Settings) -> int:
    """Ask every view, then show. Raises ``UnavailableError`` where ClickHouse cannot be read."""
    period = Period(options.days, settings.blind_after_ms, _BEATS_MISSED * settings.health_monitoring_interval_ms)
    with opened(settings) as select:
        answers = [ask(select, section, period) for section in SECTIONS]
    if options.html is not None:
        made_at = moment(SystemClock().now_ms())
        text = page.render(answers, days=options.days, made_at=made_at, cluster=settings.cluster)
        try:
            options.html.write_text(text, encoding="utf-8")
        except OSError as error:
            say(f"estop report: --html {options.html}: {error}; name a file in a directory that can be written")
            return EXIT_BAD_INPUT
        say(f"the report is in {options.html}")
    if options.json:
        show_json({answer.section.key: {**asdict(answer), "section": answer.section.title} for answer in answers})
    elif options.html is None:
        terminal.show(answers)
    return EXIT_OK
