"""What no redrive can be right for, whatever is mended."""

from __future__ import annotations

from emergency_stop.apps.dead_letters.letter import Letter
from emergency_stop.domain import topics
from emergency_stop.domain.reasons import Reject

#: Only telemetry: a control record that comes late could lift or overwrite what was decided after it.
REDRIVABLE = {spec.name: spec.record for spec in topics.TELEMETRY}


def barred(letter: Letter) -> str:
    """Why no redrive of ``letter`` can be right, whatever is mended; empty where one may be."""
    if letter.source.topic not in REDRIVABLE:
        return (
            f"{letter.source.topic or 'its topic'} is no telemetry; a control record that comes late could undo what"
            " was decided since. Give the order again: estop stop, resume, recover, triggers add"
        )
    if letter.reason is Reject.MALFORMED_RECORD:
        return "the value is no record but what is left of a batch that could not be unpacked; send the events anew"
    if letter.bytes_before_cut is not None:
        return (
            f"the letter has the beginning only of a record whose value had {letter.bytes_before_cut} bytes: its topic"
            " did not take it whole; send the event anew"
        )
    return ""
