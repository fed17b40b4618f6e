"""The handle of a run in progress: its caller can follow its events, wait for its result, and stop it."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import anyio

from lpo_agent.core.result import UsageResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lpo_agent.core.budget import Ledger
    from lpo_agent.core.events import Event
    from lpo_agent.telemetry import EventStream

R_co = TypeVar("R_co", covariant=True)


class Run(Generic[R_co]):
    """A run in progress. Iterate over it for its events, or wait for its result, of type ``R_co``."""

    def __init__(self, run_id: str, ledger: Ledger, stream: EventStream, stop: anyio.Event) -> None:
        self.run_id = run_id
        self._ledger, self._stream, self._stop = ledger, stream, stop
        self._over = anyio.Event()
        self.scope = anyio.CancelScope()
        self._result: Any = None
        self._failure: Exception | None = None

    def __aiter__(self) -> AsyncIterator[Event]:
        """Yield the run's events until it ends. Any number of tasks may iterate; each gets all events."""
        return self._stream.observed()

    async def wait(self) -> R_co:
        """Wait for the end and return the result; raises the LpoError that ended the run."""
        await self._over.wait()
        return self.result

    @property
    def result(self) -> R_co:
        """The result of a finished run; raises the LpoError that ended it, or RuntimeError before its end."""
        if self._failure is not None:
            raise self._failure
        if self._result is None:
            raise RuntimeError(
                f"run {self.run_id} is not over yet" if not self.over else f"run {self.run_id} was cut off"
            )
        return cast("R_co", self._result)

    async def ended(self) -> None:
        """Wait for the end of the run, without raising its error."""
        await self._over.wait()

    @property
    def stopping(self) -> anyio.Event:
        """An event that is set when :meth:`stop` is called."""
        return self._stop

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self._over.is_set()

    def usage(self) -> UsageResult:
        """Return the usage so far, including earlier sessions of the run."""
        return usage_of(self._ledger)

    def stop(self) -> None:
        """Ask for an early end: the search stops, but the best prompt so far is still confirmed and tested."""
        self._stop.set()

    async def cancel(self) -> None:
        """Cancel the run, and wait until the journal records this; the run can be resumed."""
        with anyio.CancelScope(shield=True):
            if not self.over:
                self.scope.cancel()
                await self._over.wait()

    def finish(self, result: object, failure: Exception | None) -> None:
        """Store how the run ended; called by the lifecycle."""
        self._result, self._failure = result, failure
        self._over.set()


def usage_of(ledger: Ledger) -> UsageResult:
    """Return the usage in the ledger."""
    totals = ledger.totals
    return UsageResult(
        calls=totals.calls,
        cached_calls=totals.cached_calls,
        failed_calls=totals.failed_calls,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        usd=totals.usd,
        wall_s=round(totals.seconds, 3),
        unsure_tokens=totals.unsure_tokens,
        unsure_usd=totals.unsure_usd,
    )


def new_run_id(now: float) -> str:
    """Return a run id that sorts by time: date, time, and four random letters."""
    letters = "".join(secrets.choice("abcdefghjkmnpqrstuvwxyz") for _ in range(4))
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{letters}"
