"""The judge's book of emergencies: every cause, every word about it, and whether the accounts of it are true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emergency_stop.domain.ids import emergency_id, hit_cause, request_cause
from emergency_stop.domain.messages import Emergency, Hit, Request
from emergency_stop.domain.values import LEVEL_SEVERITY, AckState, Action, EmergencyState, Mode

if TYPE_CHECKING:
    from tests.simulation.answers import Word
    from tests.simulation.judge import Judge
    from tests.simulation.world import SimulatedWorld

_ENDED: Final = frozenset({EmergencyState.STOPPED, EmergencyState.PARTIAL, EmergencyState.RESOLVED})
_CLAIMS: Final = frozenset({EmergencyState.STOPPED, EmergencyState.PARTIAL})
_LIFTED: Final = frozenset({EmergencyState.RECOVERING, EmergencyState.RESOLVED})


class Accounts:
    def __init__(self, judge: Judge, world: SimulatedWorld) -> None:
        self._judge, self._world = judge, world
        self._causes: dict[str, Hit | Request] = {}
        self._newest: dict[str, Emergency] = {}
        self._once_stopped: set[str] = set()
        #: By emergency: when it was planned, and when it began.
        self._planned_at: dict[str, int] = {}
        self._began_at: dict[str, int] = {}

    def caused(self, message: Hit | Request) -> None:
        """The broker has a cause: from here on its stop must not be lost."""
        if isinstance(message, Request):
            self._causes[emergency_id(request_cause(message.request_id))] = message
        elif message.mode is Mode.ENFORCE:
            self._causes[emergency_id(hit_cause(message.hit_id))] = message

    def newest(self) -> list[Emergency]:
        """The newest account of each."""
        return [*self._newest.values()]

    def unproven(self, emergency: str, epoch: int) -> list[tuple[str, str]]:
        """Instances of an emergency that neither proved its stop of ``epoch`` nor left."""
        told = self._newest.get(emergency)
        words = self._judge.answers.verdicts(emergency, epoch, told.scope if told else "")
        keys = [(one.service, one.instance_id) for one in told.instances if one.instance_id] if told else []
        # what never was can prove nothing and act no more; one that left and came again read the hold before it acted
        here = {one.key for one in self._world.instances}
        return [
            key
            for key in keys
            if key in here and not self._has_left(key) and all(word.says_no for word in words.get(key, ()))
        ]

    # -------------------------------------------------------------------------- each account as it is published

    def told(self, emergency: Emergency) -> None:
        self._newest[emergency.emergency_id] = emergency
        self._judge_beginning(emergency)
        if emergency.drill:
            return
        if emergency.state in _CLAIMS:
            self._judge_claims(emergency)
            self._note_stop(emergency)
            if emergency.state is EmergencyState.STOPPED:
                self._once_stopped.add(emergency.emergency_id)
        elif emergency.state is EmergencyState.RESOLVED:
            self._judge_confirmations(emergency)

    def _judge_beginning(self, emergency: Emergency) -> None:
        """It began once, and was planned once before, if at all; both may be told again after a crash."""
        known = emergency.emergency_id
        is_planned = emergency.state is EmergencyState.SCHEDULED
        if emergency.state is EmergencyState.RESOLVED and self._planned_at.get(known) == emergency.started_at:
            return  # called off before it began
        began = self._planned_at if is_planned else self._began_at
        if began.setdefault(known, emergency.started_at) != emergency.started_at:
            self._judge.violated("decided_twice", f"began at {began[known]}, and {emergency}")

    def _note_stop(self, emergency: Emergency) -> None:
        """Of a STOPPED emergency every instance is stopped that the coordinator had seen when it said so.

        One that had ended by then is too: whoever follows it under its id finds the hold.
        """
        if emergency.state is EmergencyState.PARTIAL:
            return self._judge.proofs.unclaim(emergency.scope, emergency.emergency_id)
        decided_at = emergency.completed_at or 0
        self._judge.proofs.claim_all(emergency.scope, emergency.emergency_id, emergency.epoch)
        for instance in self._world.instances:
            seen_at = self._world.seen_at(instance)
            if seen_at is not None and seen_at <= decided_at and self._concerns(emergency, instance.service):
                self._judge.proofs.claim(instance, emergency.scope, emergency.emergency_id, emergency.epoch)
        return None

    def concerns(self, emergency_id: str, service: str) -> bool:
        """Whether the emergency stops the service."""
        return self._concerns(self._newest[emergency_id], service)

    @staticmethod
    def _concerns(emergency: Emergency, service: str) -> bool:
        if emergency.scope.startswith("service:"):
            return emergency.scope == f"service:{service}"
        return "all" in emergency.target_services or service in emergency.target_services

    def _judge_claims(self, emergency: Emergency) -> None:
        words = self._judge.answers.verdicts(emergency.emergency_id, emergency.epoch, emergency.scope)
        for told in emergency.instances:
            key = told.service, told.instance_id
            stopped = told.state is AckState.STOPPED
            if emergency.state is EmergencyState.STOPPED and not stopped:
                self._judge.violated("false_account", f"{emergency} is STOPPED without {key}")
            if stopped and not self._has_left(key) and not any(not word.says_no for word in words.get(key, ())):
                self._judge.violated("false_account", f"{emergency}: {key} never proved the stop")
            if emergency.state is EmergencyState.PARTIAL and not stopped and not told.reason:
                self._judge.violated("false_account", f"{emergency} gives no reason for {key}")
        if emergency.state is EmergencyState.PARTIAL and not self._second_attempt(emergency):
            self._judge.violated("not_escalated", f"{emergency} is given up on without a second attempt")

    def _second_attempt(self, emergency: Emergency) -> bool:
        """Somebody who never answered was commanded again before the emergency was given up on at its deadline."""
        given = self._judge.answers.given(emergency.emergency_id, Action.STOP)
        again = any(command.attempt > 1 for command in given)
        in_doubt = (emergency.completed_at or 0) < emergency.deadline_at
        words = self._judge.answers.verdicts(emergency.emergency_id, emergency.epoch, emergency.scope)
        silent = [
            i for i in emergency.instances if i.state is AckState.UNKNOWN and (i.service, i.instance_id) not in words
        ]
        return again or in_doubt or not silent or emergency.emergency_id in self._once_stopped

    def _judge_confirmations(self, emergency: Emergency) -> None:
        for told in emergency.instances:
            key = told.service, told.instance_id
            if told.state is AckState.RESUMED and not self._judge.answers.has_resumed(emergency.emergency_id, key):
                self._judge.violated("false_account", f"{emergency}: {told} never confirmed the resume")

    def _has_left(self, key: tuple[str, str]) -> bool:
        return any(i.key == key and i.left_at is not None for i in self._world.instances)

    # ------------------------------------------------------------------------------------------------- the end

    def unended(self) -> str | None:
        """One emergency that has not ended, or a cause of which nothing was heard; ``None`` when all is over."""
        for emergency in self._newest.values():
            if emergency.state not in _ENDED:
                return emergency.emergency_id
        for held in self._judge.ledger.causes:
            if held not in self._newest:
                return held
        return next((cause for cause in self._causes if not self._was_held(cause)), None)

    def _was_held(self, emergency: str) -> bool:
        """By its own hold; or it was lifted before that went out; or its hit joined one that stops as much."""
        if emergency in self._judge.ledger.causes or self._was_lifted_at_once(emergency):
            return True
        cause = self._causes[emergency]
        return isinstance(cause, Hit) and any(self._covers(other, cause) for other in self._newest.values())

    def _was_lifted_at_once(self, emergency: str) -> bool:
        told = self._newest.get(emergency)
        return (
            told is not None
            and told.state in _LIFTED
            and any(
                request.scope == told.scope and (request.epoch or 0) >= told.epoch
                for request in self._judge.ledger.resumes.values()
                if request.emergency_id in (None, emergency)
            )
        )

    def _covers(self, emergency: Emergency, hit: Hit) -> bool:
        if (emergency.scope, emergency.trigger_id) != (hit.scope, hit.trigger_id):
            return False
        decided = LEVEL_SEVERITY[emergency.level]
        held = self._judge.ledger.severities.get(emergency.emergency_id, decided)
        if self._was_lifted_at_once(emergency.emergency_id):  # before the hold of its escalation went out
            held = max(held, decided)
        services = emergency.target_services
        return held >= LEVEL_SEVERITY[hit.level] and ("all" in services or set(hit.target_services) <= set(services))

    def conclude(self) -> None:
        for emergency, cause in self._causes.items():
            if not self._was_held(emergency):
                self._judge.violated("stop_lost", f"nothing ever held {cause}")
            elif self._judge.ledger.severities.get(emergency, 9) < LEVEL_SEVERITY[cause.level]:
                self._judge.violated("milder_hold", f"{cause} was held less severely than asked")
        for told in self._newest.values():
            if not told.drill:
                self._judge_tiers(told)
            if told.state not in _ENDED:
                self._judge.violated("never_ended", f"{told}")
            elif told.state in _CLAIMS and not told.drill:
                self._judge_last_words(told)
        for emergency, (scope, _) in self._judge.ledger.causes.items():
            if emergency not in self._newest:
                self._judge.violated("never_ended", f"{emergency} holds {scope}, and nobody accounts for it")

    def _judge_tiers(self, emergency: Emergency) -> None:
        """A stop that has ended holds all that was asked for, however many tiers it had."""
        held = self._judge.ledger.causes.get(emergency.emergency_id)
        if emergency.state in _CLAIMS and held and set(held[1].services) != set(emergency.target_services):
            self._judge.violated("stop_lost", f"{emergency} ended, and holds no more than {held[1].services}")

    def _judge_last_words(self, emergency: Emergency) -> None:
        """By now everybody has been heard: what the emergency says of an instance is its last word."""
        words = self._judge.answers.verdicts(emergency.emergency_id, emergency.epoch, emergency.scope)
        for told in emergency.instances:
            key = told.service, told.instance_id
            newest = self._judge.answers.anew_at(emergency.emergency_id, told.service)
            valid = [word for word in words.get(key, ()) if word.epoch >= newest]
            last = max(valid, key=lambda word: word[:4], default=None)
            if last is None or self._has_left(key):
                continue
            # what was said under its id before it began may stand, or be asked for anew
            if self._is_of_newest(last, key) and last.says_no is (told.state is AckState.STOPPED):
                self._judge.violated("false_account", f"{emergency}: the last word of {key} is {last}")

    def _is_of_newest(self, word: Word, key: tuple[str, str]) -> bool:
        """Whether the last process that announced itself with that id said so, or somebody who is none."""
        seen = [one for one in self._world.instances if one.key == key and self._world.seen_at(one) is not None]
        return word.started_at is None or not seen or word.started_at == seen[-1].started_at
