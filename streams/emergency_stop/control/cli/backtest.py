"""``estop triggers backtest``: what triggers would have done, and whether what they did can be replayed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

from emergency_stop.adapters.clock import SystemClock
from emergency_stop.apps.backtest.difference import Difference, by_id, by_moment, compare, recorded_hits
from emergency_stop.apps.backtest.outcomes import Judge, Known, OutcomesError, marked, read_outcomes
from emergency_stop.apps.backtest.plans import (
    PlanFrom,
    fixed,
    in_force,
    of_the_time,
    only,
    recorded_changes,
    warm_up_ms,
)
from emergency_stop.apps.backtest.reading import Reader
from emergency_stop.apps.backtest.run import Backtest, Manner, Outcome
from emergency_stop.apps.backtest.span import Map, Span, map_span
from emergency_stop.apps.backtest.sweep import SweepError, Variant, parse_sweep, variants, watched
from emergency_stop.config import Settings, did_you_mean
from emergency_stop.control.cli.backtest_output import Told, as_document, show
from emergency_stop.control.cli.output import say, show_json
from emergency_stop.control.cli.triggers import author
from emergency_stop.control.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_OK
from emergency_stop.control.report.source import opened_reader
from emergency_stop.control.trigger_files import BadDefinitionError, load_definitions, read_definitions
from emergency_stop.domain.default_triggers import builtin_triggers
from emergency_stop.domain.triggers import Trigger


class BadAskError(ValueError):
    """What is asked for cannot be replayed; the text says why, and what can."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """What is to be replayed. ``triggers`` are those at the end of the span."""

    span: Span
    plans: Sequence[PlanFrom]
    triggers: Sequence[Trigger]
    manner: Manner
    variants: Sequence[Variant] = ()
    known: Sequence[Known] = field(default_factory=tuple)


def run_backtest(options: argparse.Namespace, settings: Settings) -> int:
    """Replay and tell. 0; 1 where ``--compare`` finds a difference, 65 where what is asked for is wrong."""
    try:
        with opened_reader(settings) as reader:
            ask = _asked(reader, options, settings)
            where = map_span(reader, ask.span)
            outcome = Backtest(reader, where, ask.plans, ask.manner).run()
            difference = _difference(reader, where, ask, outcome, options) if options.compare else None
    except (BadAskError, BadDefinitionError, SweepError, OutcomesError) as error:
        say("estop triggers backtest: " + str(error).replace("\n", "\n  "))
        return EXIT_BAD_INPUT
    told = Told(ask.span, outcome, ask.triggers, ask.variants, Judge(ask.known), difference)
    if options.json:
        show_json(as_document(told, with_hits=options.hits))
    else:
        show(told, with_hits=options.hits)
    return EXIT_FAILED if difference is not None and not difference.is_none else EXIT_OK


def _asked(reader: Reader, options: argparse.Namespace, settings: Settings) -> _Ask:
    now_ms = SystemClock().now_ms()
    until_ms = now_ms if options.until is None else _moment_ms(options.until, now_ms)
    since_ms = _moment_ms(options.since, now_ms)
    if since_ms >= until_ms:
        raise BadAskError("--until lies before --since; nothing is between them")
    if options.compare and options.sweep:
        raise BadAskError("--compare is for triggers as they were, --sweep for what they were not; give one of them")
    builtin = builtin_triggers(settings.preventive_stop_level)
    if options.file is None:
        changes = recorded_changes(reader, until_ms)
        triggers = in_force(changes, builtin, until_ms)
    else:
        changes = []
        given = read_definitions(load_definitions(options.file), settings.services, author(""))
        triggers = (*given, *builtin)
    versions = [*(one.trigger for one in changes), *triggers]
    chosen = _chosen(options.trigger, {one.trigger_id for one in versions})
    triggers = only(triggers, chosen)
    swept = variants(triggers, [parse_sweep(text) for text in options.sweep]) if options.sweep else []
    as_recorded = options.file is None and not swept
    warm_ms = _warm_up_ms(options, only(versions, chosen))
    if swept:
        plans = fixed(watched(triggers, swept))
    elif as_recorded:
        kept = [one for one in changes if chosen is None or only([one.trigger], chosen)]
        plans = of_the_time(kept, only(builtin, chosen), since_ms - warm_ms)
    else:
        plans = fixed(triggers)
    return _Ask(
        Span(since_ms, until_ms, warm_ms),
        plans,
        triggers,
        Manner(settings.enabled, settings.trigger_detection_interval_ms, as_recorded),
        swept,
        _known(reader, options, triggers, (since_ms, until_ms)),
    )


def _warm_up_ms(options: argparse.Namespace, triggers: Sequence[Trigger]) -> int:
    if options.warm_up is None:
        return warm_up_ms(triggers)
    kind, value = options.warm_up
    if kind != "ago":
        raise BadAskError("--warm-up is a time; give a duration, as in 2h")
    return int(value)


def _moment_ms(given: tuple[str, int], now_ms: int) -> int:
    kind, value = given
    return now_ms - value if kind == "ago" else value


def _chosen(named: Sequence[str], known: set[str]) -> frozenset[str] | None:
    """The ids that are asked for; ``None``: all. Raises ``BadAskError``."""
    wrong = [name for name in named if name not in known]
    if wrong:
        names = tuple(sorted(known))
        hints = "; ".join(f"{name!r}{did_you_mean(name, names)}" for name in wrong)
        raise BadAskError(f"--trigger names no trigger of that time: {hints}; there are: {', '.join(names[:20])}")
    return frozenset(named) if named else None


def _known(
    reader: Reader, options: argparse.Namespace, triggers: Sequence[Trigger], period: tuple[int, int]
) -> Sequence[Known]:
    if options.outcomes is None:
        return marked(reader, {one.trigger_id: one for one in triggers}, *period)
    try:
        with options.outcomes.open(newline="", encoding="utf-8") as lines:
            found = read_outcomes(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise BadAskError(f"--outcomes {options.outcomes}: cannot be read: {error}") from None
    except OutcomesError as error:
        raise OutcomesError(f"--outcomes {options.outcomes}:\n{error}") from None
    return [one for one in found if one.until_ms >= period[0] and one.from_ms < period[1]]


def _difference(reader: Reader, where: Map, ask: _Ask, outcome: Outcome, options: argparse.Namespace) -> Difference:
    watching = {one.trigger_id for plan in ask.plans for one in plan.triggers}
    recorded = [hit for hit in recorded_hits(reader, where) if not options.trigger or hit.trigger_id in watching]
    return compare(recorded, outcome.hits, by_id if ask.manner.as_recorded else by_moment)
