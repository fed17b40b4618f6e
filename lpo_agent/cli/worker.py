"""`lpo worker`: makes model calls for runs on other machines."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from lpo_agent import WORKER_ROLES, make_spec, serve_worker
from lpo_agent.cli.options import NOT_OF_RUN, split_list
from lpo_agent.cli.signals import cancel_on_signal
from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lpo_agent import RunSpec

CONCURRENCY: Final = 16
"""The default number of requests at the same time."""
NO_PROMPT: Final = "-"


def worker(given: Mapping[str, Any]) -> None:
    """Serve until a signal comes; other workers then get the unfinished requests."""
    own = {*NOT_OF_RUN, "all_concurrency", "metric", "serve"}
    run_options = {name: value for name, value in given.items() if name not in own}
    spec = make_spec({"concurrency": CONCURRENCY, **run_options, "prompt": NO_PROMPT})
    if spec.bus == "memory":
        raise ConfigError("--bus memory has no other machines; give nats://HOST:PORT")
    limit = given.get("all_concurrency")
    if limit is not None and not (limit.isdecimal() and int(limit) > 0):
        raise ConfigError(f"--all-concurrency: give a number greater than 0 (got {limit!r})")
    roles = split_list(given["serve"]) if "serve" in given else tuple(WORKER_ROLES)

    def say(text: str) -> None:
        if not given.get("quiet"):
            print(text, file=sys.stderr, flush=True)

    anyio.run(partial(_serve, spec, roles, None if limit is None else int(limit), say))


async def _serve(spec: RunSpec, roles: Sequence[str], limit: int | None, say: Callable[[str], None]) -> None:
    def ready(address: str) -> None:
        say(f"worker: {spec.model}, {spec.concurrency} at a time, {', '.join(roles)}, for {address} (Ctrl-C ends it)")

    async with anyio.create_task_group() as tasks:
        await tasks.start(cancel_on_signal, tasks.cancel_scope)
        await serve_worker(spec, serve=roles, most_at_once=limit, ready=ready, say=say)
