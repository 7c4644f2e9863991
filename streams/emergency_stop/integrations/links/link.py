"""What all links share: listen to the user's object, tell telemetry, and hand stops on."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Final, Protocol, Self

from emergency_stop.domain.telemetry import TelemetryEvent
from emergency_stop.domain.values import Scope, ScopeKind
from emergency_stop.integrations.links.mapping import ByType, EventMap, UnmappableError, look_up, translate, type_word
from emergency_stop.sdk import StopGuard, TelemetrySink, current_stop

log = logging.getLogger(__name__)

#: Names that are counted each on its own; further ones are counted together.
NAMES_COUNTED_MAX: Final = 200
OTHER_NAMES: Final = "(others)"
ACCOUNT_PARAMETERS: Final = ("account_id", "accountId")

Rules = Mapping[str, EventMap | ByType]


class Emits(Protocol):
    """An object that calls handlers by an event's name, like Node's emitters and pyee's."""

    def on(self, event: str, handler: Callable[[Any], Any], /) -> Any: ...


class Stoppable(Protocol):
    """The guide's shape of a service: ``True`` when everything was shut down, ``False`` or an exception when not.

    With a parameter ``account_id`` it is told which account to stop; ``None`` there means all.
    """

    def emergency_stop(self, correlation_id: str, /) -> bool | Awaitable[bool]: ...


class StoppableInCamelCase(Protocol):
    """The same, spelled as in the guide."""

    def emergencyStop(self, correlation_id: str, /) -> bool | Awaitable[bool]: ...  # noqa: N802  # the guide's name


@dataclass(slots=True)
class LinkStats:
    """What became of the events: ``told`` by event; ``unmapped`` by event or type; ``malformed`` by event and field."""

    told: Counter[str] = field(default_factory=Counter)
    #: Telemetry did not take them; its own counters say why.
    lost: Counter[str] = field(default_factory=Counter)
    unmapped: Counter[str] = field(default_factory=Counter)
    malformed: Counter[str] = field(default_factory=Counter)


class ServiceLink:
    """Between ``yours``, the user's own object, and the emergency stop. Make it before ``guard.start()``.

    ``also`` adds rules for events, or replaces them; ``save_state`` and ``verify_state`` are the guard's. Raises
    ``TypeError`` where ``yours`` has no method to stop it. Call ``attach`` to listen to its events.
    """

    #: Its name in commands and settings.
    service: ClassVar[str]
    #: What its events mean.
    rules: ClassVar[Rules]
    stop_methods: ClassVar[tuple[str, ...]] = ("emergency_stop", "emergencyStop")

    def __init__(
        self,
        guard: StopGuard,
        telemetry: TelemetrySink,
        yours: object,
        *,
        save_state: Callable[[str], Awaitable[str] | str] | None = None,
        verify_state: Callable[[str], Awaitable[bool] | bool] | None = None,
        also: Rules | None = None,
    ) -> None:
        self.guard = guard
        self.telemetry = telemetry
        self.stats = LinkStats()
        self._rules: Rules = {**self.rules, **(also or {})}
        self._yours = yours
        self._stop = _stop_method(yours, self.stop_methods)
        guard.handle_stops(self.emergency_stop, save_state, verify_state)

    def attach(self) -> Self:
        """Listen to every event of the rules. Raises ``TypeError`` where the object emits none."""
        on = getattr(self._yours, "on", None)
        if not callable(on):
            raise TypeError(
                f"{type(self._yours).__name__} has no on(event, handler); hand its events to"
                f" {type(self).__name__}.handle(event, payload) instead of calling attach()"
            )
        for event in self._rules:
            on(event, partial(self.handle, event))
        return self

    def handle(self, event: str, payload: object = None, /) -> Awaitable[None]:
        """Tell telemetry of one event. Never raises; what comes back may be awaited, and need not be."""
        try:
            self._handle(event, payload)
        except UnmappableError as error:
            if self._count(self.stats.malformed, f"{event}: {error.field}") == 1:
                log.warning("%s: %s is malformed: %s", self.service, event, error)
        except Exception:  # a payload is foreign code: its properties may raise anything
            self._count(self.stats.malformed, f"{event}: (raised)")
            log.exception("%s: %s could not be read", self.service, event)
        return _NOTHING

    async def emergency_stop(self, correlation_id: str) -> bool:
        """The guard's stop handler: the user's own method."""
        done = self._stop(correlation_id, _account_of_stop())
        if inspect.isawaitable(done):
            done = await done
        if done is None and self._stop.wants_verdict:
            raise TypeError(f"{self._stop.name}({correlation_id!r}) returned nothing; it must return True or False")
        return done is None or bool(done)

    def known_of(self, rule: EventMap, payload: object) -> Mapping[str, Any] | None:
        """What stands in for fields that ``payload`` lacks; nothing, unless a link knows better."""
        return None

    def on_told(self, event: TelemetryEvent) -> None:
        """Telemetry has taken ``event``."""

    def tell(self, name: str, event: TelemetryEvent) -> None:
        """Hand ``event`` to telemetry, and count it under ``name``."""
        if self.telemetry.offer(event):
            self._count(self.stats.told, name)
            self.on_told(event)
        else:
            self._count(self.stats.lost, name)

    def _handle(self, event: str, payload: object) -> None:
        name, rule = event, self._rules.get(event)
        if isinstance(rule, ByType):
            kind = look_up(payload, rule.field)
            if kind is None:
                raise UnmappableError(rule.field, "missing")
            name, rule = f"{event}: {type_word(kind)}", rule.maps.get(type_word(kind))
        if rule is None:
            if self._count(self.stats.unmapped, name) == 1:
                log.info("%s: %s means nothing to the emergency stop; counted only", self.service, name)
            return
        self.tell(name, translate(rule, payload, self.known_of(rule, payload)))

    @staticmethod
    def _count(counter: Counter[str], name: str) -> int:
        """Foreign names are no reason to grow without bound. Returns the new count."""
        name = name[:100] if name[:100] in counter or len(counter) < NAMES_COUNTED_MAX else OTHER_NAMES
        counter[name] += 1
        return counter[name]


class _Nothing:
    """Ready at once; unlike a coroutine nobody complains when it is not awaited."""

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


_NOTHING: Final = _Nothing()


class _StopMethod:
    """The user's method, called with what it takes."""

    def __init__(self, name: str, method: Callable[..., Any]) -> None:
        self.name = name
        #: ``shutdown`` makes no promise to return something.
        self.wants_verdict: Final = name != "shutdown"
        self._method = method
        parameters = inspect.signature(method).parameters
        self._account_parameter = next((known for known in ACCOUNT_PARAMETERS if known in parameters), None)
        self._takes_correlation_id = any(
            parameter.name not in ACCOUNT_PARAMETERS and parameter.kind is not parameter.VAR_KEYWORD
            for parameter in parameters.values()
        )

    def __call__(self, correlation_id: str, account_id: str | None) -> Any:
        given = (correlation_id,) if self._takes_correlation_id else ()
        named = {self._account_parameter: account_id} if self._account_parameter else {}
        return self._method(*given, **named)


def _stop_method(yours: object, names: tuple[str, ...]) -> _StopMethod:
    for name in names:
        method = getattr(yours, name, None)
        if callable(method):
            return _StopMethod(name, method)
    near = difflib.get_close_matches(names[0], [name for name in dir(yours) if not name.startswith("_")], n=1)
    hint = f" (did you mean {near[0]!r} by it?)" if near else ""
    raise TypeError(
        f"{type(yours).__name__} has no method {' or '.join(names)}{hint}: a stop command could not reach it; add"
        f" {names[0]}(correlation_id) -> bool"
    )


def _account_of_stop() -> str | None:
    """The account of the stop under way; ``None`` where it covers more than one."""
    command = current_stop()
    scope = Scope.parse(command.scope) if command else None
    return scope.name if scope and scope.kind is ScopeKind.ACCOUNT else None
