"""Triggers of one account whose place changes: their rows of state go along.

Where a trigger of one account has its row depends on what else there is: beside the trigger that it overrides, or in
the first group of its shape in which nobody else watches the account (see ``compile``). A row says which trigger wrote
it, so it is known again wherever it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from emergency_stop.columnar.columns import I64
from emergency_stop.detect.groups import GroupState
from emergency_stop.detect.judge_kernels import WHO
from emergency_stop.detect.parameters import mark
from emergency_stop.detect.plan import Group
from emergency_stop.domain.triggers import Trigger

SlotOf = Callable[[bytes], int]
_TRIGGER: Final = "trigger:"
#: How the names of groups begin; what else a page holds are series, and silences that were told.
_OF_GROUPS: Final = (_TRIGGER, "stable:", "accounts:")


@dataclass(frozen=True, slots=True)
class Move:
    """A row of state on its way to another group; ``fired`` is what is known of the account's silence."""

    state: GroupState
    slot: int
    row: I64
    fired: I64

    def arrive(self) -> None:
        """Put the row in its place. The group must have rows for all accounts."""
        self.state.table.rows[self.slot] = self.row
        if self.state.group.is_silence and len(self.fired):
            self.state.fired.rows[self.slot] = self.fired


def moves(states: Iterable[GroupState], former: Mapping[str, GroupState], slot_of: SlotOf) -> list[Move]:
    """What ``states`` lack of ``former`` ones, taken from there: where one arrives, another may have been.

    Costs a look at each trigger of one account, in groups that changed.
    """
    arrived = {one.trigger_id: (state, one) for state in states for one in _newcomers(state, former)}
    found = []
    for before in former.values() if arrived else ():
        for one in own_members(before.group):
            state, now = arrived.get(one.trigger_id, (None, None))
            if (
                state is None
                or now is None
                or now.account_id != one.account_id
                or state.group.name == before.group.name
            ):
                continue
            slot = slot_of((one.account_id or "").encode())
            if slot >= 0 and before.table.rows[slot, WHO] == mark(one):
                fired = before.fired.rows[slot : slot + 1].copy().ravel()
                found.append(Move(state, slot, before.table.rows[slot].copy(), fired))
                before.table.rows[slot] = 0
    return found


def own_members(group: Group) -> Iterator[Trigger]:
    """Triggers of one account in a group."""
    return (group.members[index].trigger for index in group.by_account.values() if index >= 0)


def _newcomers(state: GroupState, former: Mapping[str, GroupState]) -> Iterator[Trigger]:
    """Triggers of one account that the group of this name did not have, or not in this version."""
    before = former.get(state.group.name)
    if before is state:
        return
    there = {} if before is None else before.group.by_account
    for account, index in state.group.by_account.items():
        if index >= 0:
            one, former_index = state.group.members[index].trigger, there.get(account, -1)
            if before is None or former_index < 0 or before.group.members[former_index].trigger is not one:
                yield one


class Strays:
    """Rows of a written page that belong elsewhere, because triggers changed since. For the time of loading.

    Between the two halves of a canary that goes on, they move once it is known who watches whom.
    """

    def __init__(self, states: Iterable[GroupState]) -> None:
        self._states = {state.group.name: state for state in states}
        self._homes = {mark(one): state for state in self._states.values() for one in own_members(state.group)}
        bases = [(state, state.group.base) for name, state in self._states.items() if name.startswith(_TRIGGER)]
        self._bases = {mark(state.group.members[base].trigger): state for state, base in bases}

    def settle(self, first: int, arrays: Mapping[str, Sequence[I64]]) -> None:
        """Put rows where their triggers are now; ``first`` is the page's first slot."""
        found = list(self._strays(arrays))
        for name, _, index in found:
            if name in self._states:
                self._states[name].table.rows[first + index] = 0
        for name, home, index in found:
            home.table.rows[first + index] = arrays[name][0][index]

    def _strays(self, arrays: Mapping[str, Sequence[I64]]) -> Iterator[tuple[str, GroupState, int]]:
        """(where a row lies, where it belongs, its place in the page)."""
        for name, (rows, *_) in arrays.items():
            gone = name not in self._states  # a canary's other half, for example, which ended meanwhile
            if not name.startswith(_OF_GROUPS) or not (gone or self._homes):
                continue
            homes = self._bases | self._homes if gone else self._homes
            for index in np.flatnonzero(rows[:, WHO]).tolist():
                home = homes.get(int(rows[index, WHO]))
                if home is not None and home.group.name != name:
                    yield name, home, index
