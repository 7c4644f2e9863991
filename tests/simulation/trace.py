"""One line for whatever happens in a schedule, short enough to read a thousand of."""

from __future__ import annotations

from functools import singledispatch

from emergency_stop.domain.messages import Ack, AuditRecord, Command, Emergency, Hit, Hold, HoldCause, Request


def short(identifier: str) -> str:
    return identifier[:6]


@singledispatch
def describe(value: object) -> str:
    return str(value)


@describe.register
def _(value: Hit) -> str:
    services = ",".join(value.target_services)
    return (
        f"hit {value.hit_id} of {value.trigger_id} ({value.mode}): {value.level} stop of {value.scope} for {services}"
    )


@describe.register
def _(value: Request) -> str:
    what = f"epoch {value.epoch}" if value.epoch is not None else f"{value.level} for {','.join(value.services)}"
    one = f", emergency {short(value.emergency_id)}" if value.emergency_id else ""
    return f"request {value.request_id}: {value.action} {value.scope}, {what}{one}"


@describe.register
def _(value: Command) -> str:
    return (
        f"command {short(value.command_id)} to {value.service}: {value.action} {value.scope} at epoch {value.epoch},"
        f" {value.level}, attempt {value.attempt}, emergency {short(value.emergency_id)}, by {value.deadline_at}"
    )


@describe.register
def _(value: Ack) -> str:
    return (
        f"ack of {value.service}/{value.instance_id}: {value.state} to {short(value.command_id)} at epoch"
        f" {value.epoch},"
        f" emergency {short(value.emergency_id)}, {value.in_flight} in flight, said {value.acked_at}: {value.reason}"
    )


@describe.register
def _(value: HoldCause) -> str:
    return f"{short(value.emergency_id)} {value.level}@{value.epoch} for {','.join(value.services)}"


@describe.register
def _(value: Hold) -> str:
    causes = "; ".join(map(describe, value.causes))
    return f"hold of {value.scope} at epoch {value.epoch}: {value.state} {value.level or ''} [{causes}]"


@describe.register
def _(value: Emergency) -> str:
    instances = "; ".join(f"{i.service}/{i.instance_id or '-'} {i.state}: {i.reason}" for i in value.instances)
    return f"emergency {short(value.emergency_id)} of {value.scope}: {value.state}, {value.level} [{instances}]"


@describe.register
def _(value: AuditRecord) -> str:
    return f"audit: {value.actor} {value.action} {short(value.subject)}: {value.reason}"
