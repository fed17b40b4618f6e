"""The command that works for runs on other machines: worker."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio

from lpo_agent.cli.options import OWN
from lpo_agent.cli.signals import cancel_on_signal
from lpo_agent.environment import read_environment
from lpo_agent.errors import ConfigError
from lpo_agent.spec import make_spec
from lpo_agent.workers.messages import ROLES
from lpo_agent.workers.worker import serve_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from lpo_agent.spec import RunSpec

PLACES: Final = 16
"""Requests at the same time, unless said otherwise."""


def worker(given: Mapping[str, Any]) -> None:
    """Serve until a signal comes; what is under way then is given back to other workers."""
    own = {*OWN, "all_concurrency", "metric", "serve"}
    options = {name: value for name, value in given.items() if name not in own}
    spec = make_spec({"concurrency": PLACES, **options, "prompt": "-"})
    if spec.bus == "memory":
        raise ConfigError("--bus memory has no other machines; give nats://HOST:PORT")
    cap = given.get("all_concurrency")
    if cap is not None and not (cap.isdecimal() and int(cap) > 0):
        raise ConfigError(f"--all-concurrency: give a number greater than 0 (got {cap!r})")
    serve = tuple(word.strip() for word in given.get("serve", ",".join(ROLES)).split(",") if word.strip())

    def say(text: str) -> None:
        if not given.get("quiet"):
            print(text, file=sys.stderr, flush=True)

    anyio.run(partial(_serve, spec, serve, None if cap is None else int(cap), say))


async def _serve(spec: RunSpec, serve: Collection[str], cap: int | None, say: Callable[[str], None]) -> None:
    def ready(address: str) -> None:
        say(f"worker: {spec.model}, {spec.concurrency} at a time, {', '.join(serve)}, for {address} (Ctrl-C ends it)")

    async with anyio.create_task_group() as tasks:
        await tasks.start(cancel_on_signal, tasks.cancel_scope)
        await serve_worker(spec, read_environment(), serve=serve, most_at_once=cap, ready=ready, say=say)
