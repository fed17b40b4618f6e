"""All exceptions that the package raises on purpose, in one class tree, with the exit codes of the command line.

::

    LpoError                      exit code
    +-- InputError                2   something the user gave is wrong
    |   +-- ConfigError               an option, a config file, a metric, a model name
    |   +-- DataError                 a data file or a row of it
    |   +-- MarkupError               <edit>/<keep> tags or placeholders of a prompt
    +-- ProviderError             3   a model service gave no usable answer (``retry``: whether to repeat)
    |   +-- AuthError                 key missing or refused
    |   +-- QuotaError                account out of credit
    |   +-- UnknownModelError         the service does not have the model
    |   +-- UnreachableError          no service answers at the address
    |   +-- OutageError               the service answered before, but has stopped for too long
    |   +-- RequestRejected           this one request is refused; others may succeed
    |   +-- RateLimited               too many requests or tokens
    |   +-- TransientError            time-out, overload, broken connection
    |       +-- BrokenReply               a reply came, but cannot be used
    +-- BudgetExceeded            4   the next call could exceed a limit of the budget
    |   +-- BudgetTied                the same, but calls in progress may turn out cheaper than reserved
    +-- TooManyUnscored           3   so many items failed that a score would be misleading
    +-- MetricError               1   a metric cannot judge one item, which is then unscored
    +-- EditRejected              1   an edit changes protected text, or breaks a placeholder
    +-- ReplyError                1   a model's reply does not have the requested form
    +-- JournalError              2   the journal cannot be read or written
    +-- NotKnown                  1   the journal does not have the recorded answer
    +-- BusError                  1   a request over the bus got no reply
        +-- DeadlineExceeded          no reply in time
        +-- BusClosed                 the bus was closed while waiting
        +-- RequestFailed             the handler failed (``failure`` says how)

A message says what is wrong, where (file, row, option), and what to do about it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lpo_agent.failure import Failure, Retry

__all__ = [
    "AuthError",
    "BrokenReply",
    "BudgetExceeded",
    "BudgetTied",
    "BusClosed",
    "BusError",
    "ConfigError",
    "DataError",
    "DeadlineExceeded",
    "EditRejected",
    "InputError",
    "JournalError",
    "LpoError",
    "MarkupError",
    "MetricError",
    "NotKnown",
    "OutageError",
    "ProviderError",
    "QuotaError",
    "RateLimited",
    "ReplyError",
    "RequestFailed",
    "RequestRejected",
    "TooManyUnscored",
    "TransientError",
    "UnknownModelError",
    "UnreachableError",
    "leaves",
    "ungrouped",
    "worst",
]


class LpoError(Exception):
    """Base of all errors raised on purpose."""

    exit_code: ClassVar[int] = 1


class InputError(LpoError):
    """Something the user gave is wrong; nothing was spent."""

    exit_code = 2


class ConfigError(InputError):
    """An option, a config file, a metric or a model name is wrong."""


class DataError(InputError):
    """A data file, or a row of it, is wrong."""


class MarkupError(InputError):
    """The tags or placeholders of a prompt are wrong."""


class ProviderError(LpoError):
    """A model service did not give a usable answer.

    ``retry``: whether and when to repeat the call; None if a repetition cannot succeed. ``fatal``: whether all
    other requests to the same model will fail too. ``unsure``: whether the service may have charged for the
    request, although no usable answer came.
    """

    exit_code = 3
    fatal: ClassVar[bool] = False

    def __init__(self, message: str, *, retry: Retry | None = None, unsure: bool = False) -> None:
        super().__init__(message)
        self.retry, self.unsure = retry, unsure


class AuthError(ProviderError):
    """The key is missing or refused."""

    fatal = True


class QuotaError(ProviderError):
    """The account has no credit left."""

    fatal = True


class UnknownModelError(ProviderError):
    """The service does not know the model."""

    fatal = True


class UnreachableError(ProviderError):
    """No service answers at the address."""

    fatal = True


class OutageError(ProviderError):
    """The service has not answered for so long that the run ends; it can be resumed."""

    fatal = True


class RequestRejected(ProviderError):
    """This request is refused (too long, filtered, malformed); others may succeed."""


class RateLimited(ProviderError):
    """The service refused the request because a rate limit was exceeded."""


class TransientError(ProviderError):
    """A time-out, an overload or a broken connection."""


class BrokenReply(TransientError):
    """A reply came, but cannot be used: it has not the expected form, or no content."""


class BudgetExceeded(LpoError):
    """The next call could exceed a limit of the run's budget, so it was not made."""

    exit_code = 4


class BudgetTied(BudgetExceeded):
    """The next call could exceed a limit, but only if the calls in progress cost as much as was reserved for them.

    Try again when one of them has ended.
    """


class TooManyUnscored(LpoError):
    """So many items could not be scored that a mean over the others would be misleading."""

    exit_code = 3


class MetricError(LpoError):
    """A metric failed on one item, which is then unscored; the message gives the reason."""


class EditRejected(LpoError):
    """An edit changes text outside its spans, adds a tag, or changes the placeholders."""


class ReplyError(LpoError):
    """A model's reply does not have the form that was asked for."""


class JournalError(LpoError):
    """The journal cannot be read or written, or does not hold what was asked for."""

    exit_code = 2


class NotKnown(LpoError):
    """The journal does not have the recorded answer that was asked for."""


class BusError(LpoError):
    """A request over the bus got no reply."""


class DeadlineExceeded(BusError):
    """No reply came within the request's time."""


class BusClosed(BusError):
    """The bus was closed while a request was waiting."""


class RequestFailed(BusError):
    """The handler of a request failed; ``failure`` is the error that it reported, on every kind of bus."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.kind}: {failure.detail}")
        self.failure = failure

    @property
    def single(self) -> bool:
        """Whether the failure concerns only this request or its reply, so that other requests can succeed."""
        alone = (ReplyError, RequestRejected, TransientError, BrokenReply)
        return self.failure.kind in {kind.__name__ for kind in alone}


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions inside (nested) exception groups, or ``exc`` itself."""
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from leaves(inner)
    else:
        yield exc


def bug_in(group: ExceptionGroup) -> Exception:
    """Return the only exception of a (nested) group, or the group if there are several.

    A failure that came over the bus is converted back into the exception that the handler raised.
    """
    found = {id(leaf): leaf for leaf in map(_revived, leaves(group))}
    (first, *others) = found.values()
    return group if others or not isinstance(first, Exception) else first


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise the only exception of a group that leaves the block without the group; larger groups stay as they are."""
    try:
        yield
    except BaseExceptionGroup as group:
        only = list({id(leaf): leaf for leaf in leaves(group)}.values())
        if len(only) == 1:
            raise only[0] from None
        raise


def worst(exc: BaseException) -> LpoError | None:
    """Return the error to report to the user, None if one of the errors is a bug or a cancellation.

    A failure that came over the bus is converted back into the error that the handler raised.
    """
    found = [_revived(leaf) for leaf in leaves(exc)]
    known = [error for error in found if isinstance(error, LpoError)]
    if not known or len(known) < len(found):
        return None
    return max(known, key=lambda error: (getattr(error, "fatal", False), error.exit_code))


def _revived(exc: BaseException) -> BaseException:
    if not isinstance(exc, RequestFailed):
        return exc
    if exc.__cause__ is not None:
        return exc.__cause__
    kind = _BY_NAME.get(exc.failure.kind)
    return exc if kind is None else kind(exc.failure.detail)


def _with_subclasses(kind: type[LpoError]) -> Iterator[type[LpoError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from _with_subclasses(subclass)


_BY_NAME: Final = {kind.__name__: kind for kind in _with_subclasses(LpoError) if kind is not RequestFailed}
"""The errors above by the name that :class:`lpo_agent.core.messages.Failure` gives."""
