"""The health of one credential at its upstream: healthy, cooling or out. Pure: clocks are handed in.

Cooling and out end half-open: one attempt at a time is let through, and its answer decides. Health chooses between
candidates where there are several; nothing is refused for it (decision 84). A credential that another one of its
provider outdoes is set aside for that model alone (decision 117).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from services.gateway.window import Window
from shared.contract.provider_state import Health as State

_FAILURES = 3  # in a row; then it cools
_REFUSALS = 3  # that may be about the request, in a row; then it is out, if two are behind them
_SEVERAL = 2
# How long until it is half-open: the first time, and at most. It doubles with each half-open attempt that fails.
_SECONDS = {State.COOLING: (2.0, 60.0), State.OUT: (30.0, 600.0)}
_MOST_MODELS = 64  # for which one credential is set aside
_RECENT_SECONDS = 300.0
_NOTE_SECONDS = 10.0


class Verdict(Enum):
    """What an attempt says about its credential."""

    ACCEPTED = auto()
    REFUSED = auto()  # whatever is asked
    FORBIDDEN = auto()  # refused, perhaps for what was asked
    FAILED = auto()  # no answer, 408, 429, 5xx
    NOTHING = auto()  # the attempt was given up, by us or by the client


class _Refusals:
    """Refusals that may be about the request."""

    __slots__ = ("_callers", "_models")

    def __init__(self) -> None:
        self._callers: list[str] = []  # who was behind each of the last ones since a success
        self._models: dict[str, tuple[float, int]] = {}  # set aside: until when, and how often it was before

    def note(self, caller: str) -> bool:
        """Note one. Returns whether they are the credential's fault."""
        self._callers = [*self._callers[1 - _REFUSALS :], caller]
        return len(self._callers) >= _REFUSALS and len(set(self._callers)) >= _SEVERAL

    def forget(self) -> None:
        """It has served something."""
        self._callers = []

    def outdone(self, model: str, now: float) -> bool:
        until, times = self._models.pop(model, (0.0, 0))
        first, most = _SECONDS[State.OUT]
        changed = now >= until
        if changed:
            times = times + 1 if times and now < until + most else 1
            until = now + min(most, first * 2 ** (times - 1))
        while len(self._models) >= _MOST_MODELS:
            del self._models[next(iter(self._models))]
        self._models[model] = until, times
        return changed

    def aside(self, model: str, now: float) -> bool:
        return model in self._models and now < self._models[model][0]


class Health:
    """What is known of one credential at one upstream. Times are monotonic seconds."""

    __slots__ = (
        "_half_open",
        "_recent",
        "_refused",
        "_row",
        "_times",
        "_until",
        "cause",
        "failures",
        "requests",
        "since",
        "state",
        "troubled",
    )

    def __init__(self, now: float) -> None:
        self.requests = 0  # attempts that have begun
        self.failures = 0  # how many of them failed
        self.state = State.HEALTHY
        self.since = now
        self.cause = ""  # of the last failure
        self.troubled = False  # a success would change something
        self._row = 0  # failures since the last success
        self._refused = _Refusals()
        self._times = 0  # how often it became half-open since it was healthy
        self._until = now  # then it is half-open
        self._half_open = False  # the attempt that decides is on its way
        self._recent = Window(_RECENT_SECONDS, _NOTE_SECONDS)

    def usable(self, now: float) -> bool:
        """Whether an attempt should be made with it where there is another one."""
        return self.state is State.HEALTHY or (now >= self._until and not self._half_open)

    def serves(self, model: str, now: float) -> bool:
        """Whether it is not set aside for a model."""
        return not self._refused.aside(model, now)

    def begin(self, now: float) -> bool:
        """An attempt begins. Returns whether it is the one that decides; `end` must be told."""
        self.requests += 1
        if not self.troubled or self.state is State.HEALTHY or not self.usable(now):
            return False
        self._half_open = True
        return True

    def end(
        self,
        verdict: Verdict,
        began: float,
        now: float,
        *,
        decides: bool = False,
        cause: str = "",
        caller: str = "",
        wait: float | None = None,
    ) -> bool:
        """An attempt has ended. Returns whether the state has changed.

        `caller`: whose request it was; `wait`: seconds for which the provider asks to be left alone.
        """
        if decides:
            self._half_open = False
        if verdict is Verdict.ACCEPTED:
            return self.troubled and self._mend(began, now)
        if verdict is Verdict.NOTHING:
            return False
        self.failures += 1
        self.cause = cause
        self.troubled = True
        if verdict is Verdict.REFUSED:
            return self._put(State.OUT, now, decides=decides)
        if verdict is Verdict.FORBIDDEN:
            return self._note_refusal(caller, now, decides=decides)
        self._row += 1
        if not decides and self._row < _FAILURES and wait is None:
            return False
        state = State.OUT if self.state is State.OUT else State.COOLING
        return self._put(state, now, decides=decides, wait=wait)

    def outdone(self, model: str, now: float) -> bool:
        """Another credential of the upstream has served a request for a model that this one was refused for. It is set
        aside for that model. Returns whether it was not already."""
        return self._refused.outdone(model, now)

    def note(self, now: float) -> None:
        """Keep what `recent` looks back to; to be called every now and then."""
        self._recent.note(now, (self.requests, self.failures))

    @property
    def recent(self) -> tuple[int, int]:
        """Attempts of the last five minutes, and how many of them failed."""
        requests, failures = self._recent.grown((self.requests, self.failures))
        return requests, failures

    def _mend(self, began: float, now: float) -> bool:
        mended = self.state is not State.HEALTHY
        if mended and began < self.since:
            return False  # it says what was
        self._row = self._times = 0
        self._refused.forget()
        self.troubled = self._half_open = False
        if mended:
            self.state, self.since = State.HEALTHY, now
        return mended

    def _note_refusal(self, caller: str, now: float, *, decides: bool) -> bool:
        enough = self._refused.note(caller)
        if self.state is State.OUT and decides:
            return self._put(State.OUT, now, decides=True)
        if decides and not enough:
            return self._put(State.COOLING, now, decides=True)
        return enough and self._put(State.OUT, now, decides=decides)

    def _put(self, state: State, now: float, *, decides: bool, wait: float | None = None) -> bool:
        """Put it aside, for longer where the attempt that decides has failed."""
        changed = self.state is not state
        if (self.state is State.OUT and changed) or (not changed and not decides):
            return False  # what was under way with it says nothing new
        if changed:
            self.state, self.since, self._times = state, now, 0
        first, most = _SECONDS[state]
        self._until = now + (wait if wait is not None else min(most, first * 2**self._times))
        self._times += 1
        return changed


class Healths:
    """What is known of every credential, by provider and name. It outlives a reload of the settings."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: monotonic seconds."""
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[bytes, Health]] = {}

    def of(self, provider: str, credential: str, secret: bytes) -> Health:
        """The health of a credential: a fresh one where its secret, or what stands for it here, is another one now."""
        known = self._known.get((provider, credential))
        if known is None or known[0] != secret:
            known = self._known[provider, credential] = secret, Health(self._clock())
        return known[1]
