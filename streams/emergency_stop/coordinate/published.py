"""What ``estop.holds`` tells of every scope, and whether its last record is what the scope's owner has decided.

Theory of operation. The topic is compacted, so in time a scope's last record is all that remains of it, and
is what every instance that starts from then on reads. It may be wrong: a coordinator that stood still with
a record on its way writes it after its successor has written newer ones; one that cannot know that it was
succeeded, or somebody else with the key, gives an epoch that the owner gave to another hold, or never gave;
somebody without the key writes what no guard believes, or nothing at all. Such a scope is **overtaken**: nobody
may rely on its record, and its owner says its hold again, under a new epoch, which every guard takes. That ends
it: only a record of an epoch beyond all that were read does.

The owner's own decisions come in by ``begin``, ``restored`` and ``decided``, and ``forgotten`` ends what it
knows. Of a scope whose owner knows nothing, only a lifting is ever said again: what holds is never forgotten,
so whoever finds a hold there and no memory of it is in doubt, and leaves it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from emergency_stop.domain.messages import Hold
from emergency_stop.domain.values import HoldState

_ACCOUNTS: Final = "account:"
#: What no signature vouches for counts up to here, so that a new epoch is beyond it; more would leave no room for one.
_DOUBTFUL_EPOCH_MAX: Final = 1 << 40


class _Word(NamedTuple):
    """What a hold says, as far as guards act by it, in few bytes."""

    epoch: int
    content: int


def _word(hold: Hold) -> _Word:
    return _Word(hold.epoch, hash((hold.state, hold.level, hold.causes)))


_RUNNING: Final = hash((HoldState.RUNNING, None, ()))


class PublishedHolds:
    """Changes in place; some 300 bytes for every scope that was ever held."""

    def __init__(self) -> None:
        #: The largest epoch that was read, by whomever.
        self._epochs: dict[str, int] = {}
        #: The newest word that counts, and what the owner has decided.
        self._newest: dict[str, _Word] = {}
        self._decided: dict[str, _Word] = {}
        #: What this process has published last, and so need not verify.
        self._own: dict[str, int] = {}
        self._overtaken: dict[str, int] = {}
        #: Those of them that are so only because the owner has decided something else.
        self._foreign: set[str] = set()
        self._wide: dict[str, Hold] = {}
        self._times = 0

    @property
    def epochs(self) -> Mapping[str, int]:
        """The largest epoch by scope, whoever wrote it: a new one must be beyond it."""
        return self._epochs

    def has(self, scope: str, epoch: int) -> bool:
        """Whether who reads the topic from now on finds the scope's hold of ``epoch``, or a newer one.

        Not while anything makes its last record doubtful, though it be only a repetition of the right one.
        """
        newest = self._newest.get(scope)
        return newest is not None and newest.epoch >= epoch and scope not in self._overtaken

    @property
    def overtaken(self) -> Mapping[str, int]:
        """Scopes whose hold is to be said again, each with a number that no other occasion has."""
        return {scope: occasion for scope, occasion in self._overtaken.items() if self._may_say_again(scope)}

    def _may_say_again(self, scope: str) -> bool:
        newest = self._newest.get(scope)
        return scope in self._decided or (newest is not None and newest.content == _RUNNING)

    @property
    def wide(self) -> Mapping[str, Hold]:
        """The holds in force that reach beyond one account, by scope: of everything, or of a service."""
        return self._wide

    # ------------------------------------------------------------------------------------------ what is decided

    def begin(self, is_owned: Callable[[str], bool]) -> None:
        """The owner of these scopes begins here; what was decided here before they had another owner is void."""
        for scope in [scope for scope in self._decided if is_owned(scope)]:
            self.forgotten(scope)
        for scope in [scope for scope in self._foreign if is_owned(scope)]:
            self._foreign.discard(scope)
            del self._overtaken[scope]

    def restored(self, hold: Hold) -> None:
        """After ``begin``: this is the newest hold that its owner, or a predecessor, has decided."""
        scope = hold.scope
        self._decided[scope] = _word(hold)
        newest = self._newest.get(scope)
        if newest is not None and self._contradicts(scope, newest):
            self._dispute(scope)

    def decided(self, hold: Hold, value: bytes | None) -> None:
        """The owner is about to publish this as ``value``."""
        self._decided[hold.scope] = _word(hold)
        self._own[hold.scope] = hash(value)

    def is_own(self, scope: str, value: bytes | None) -> bool:
        """Whether the record ``value`` is the last one that was published here."""
        return value is not None and self._own.get(scope) == hash(value)

    def forgotten(self, scope: str) -> None:
        """The owner knows nothing of the scope any more but that nothing holds it."""
        self._decided.pop(scope, None)
        self._own.pop(scope, None)

    # --------------------------------------------------------------------------------------------- what is read

    def take(self, hold: Hold, *, trusted: bool = True) -> bool:
        """The next record of the topic, in the order of its partition; whether it is the scope's newest word."""
        scope, word = hold.scope, _word(hold)
        read, newest = self._epochs.get(scope, 0), self._newest.get(scope)
        if not trusted:
            self._epochs[scope] = max(read, word.epoch if word.epoch <= _DOUBTFUL_EPOCH_MAX else 0)
            return self._overtake(scope)
        self._epochs[scope] = max(read, word.epoch)
        if newest is not None and (word.epoch < newest.epoch or (word.epoch == newest.epoch and word != newest)):
            return self._overtake(scope)
        if self._contradicts(scope, word):
            self._dispute(scope)
        elif word.epoch > read:
            self._overtaken.pop(scope, None)
            self._foreign.discard(scope)
        self._newest[scope] = word
        self._note_wide(hold)
        return scope not in self._overtaken

    def spoiled(self, scope: str) -> None:
        """A record under the scope's key says nothing of it: it is empty, or unreadable, or is of another scope."""
        self._epochs.setdefault(scope, 0)
        self._overtake(scope)

    def _contradicts(self, scope: str, word: _Word) -> bool:
        decided = self._decided.get(scope)
        return decided is not None and (word.epoch > decided.epoch or (word.epoch == decided.epoch and word != decided))

    def _dispute(self, scope: str) -> None:
        is_foreign = scope not in self._overtaken or scope in self._foreign
        self._overtake(scope)
        if is_foreign:
            self._foreign.add(scope)

    def _overtake(self, scope: str) -> bool:
        self._times += 1
        self._overtaken[scope] = self._times
        self._foreign.discard(scope)
        return False

    def _note_wide(self, hold: Hold) -> None:
        """What was lifted against its owner's decision may hold all the same."""
        if hold.state is HoldState.HELD:
            if not hold.scope.startswith(_ACCOUNTS):
                self._wide[hold.scope] = hold
        elif hold.scope not in self._overtaken:
            self._wide.pop(hold.scope, None)
