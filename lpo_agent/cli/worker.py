"""The command that scores for runs on other machines: worker."""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

import anyio

from lpo_agent.cli.options import OWN
from lpo_agent.cli.signals import cancel_on_signal
from lpo_agent.core.budget import Ledger
from lpo_agent.environment import read_environment
from lpo_agent.errors import ConfigError
from lpo_agent.journal import open_journal
from lpo_agent.metrics import as_metric
from lpo_agent.models.prices import load_prices
from lpo_agent.runs.wiring import Account, ModelPool
from lpo_agent.spec import make_spec
from lpo_agent.workers.connecting import open_network, wire_of, work

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from lpo_agent.spec import RunSpec

PLACES: Final = 16
"""Items at the same time, unless said otherwise."""


def worker(given: Mapping[str, Any]) -> None:
    """Serve until a signal comes; what is under way then is given back to other workers."""
    options = {name: value for name, value in given.items() if name not in {*OWN, "all_concurrency", "metric"}}
    spec = make_spec({"concurrency": PLACES, **options, "prompt": "-"})
    if spec.bus == "memory":
        raise ConfigError("--bus memory has no other machines; give nats://HOST:PORT")
    cap = given.get("all_concurrency")
    if cap is not None and not (cap.isdecimal() and int(cap) > 0):
        raise ConfigError(f"--all-concurrency: give a number greater than 0 (got {cap!r})")

    def say(text: str) -> None:
        if not given.get("quiet"):
            print(text, file=sys.stderr, flush=True)

    anyio.run(_serve, spec, None if cap is None else int(cap), given.get("metric") or (), say)


async def _serve(spec: RunSpec, cap: int | None, metrics: Collection[str], say: Callable[[str], None]) -> None:
    for name in metrics:
        as_metric(name)  # one that cannot be loaded is better known now
    env = read_environment()
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        await tasks.start(cancel_on_signal, tasks.cancel_scope)
        journal = await stack.enter_async_context(open_journal(env.journal))
        account = Account(journal, Ledger(), load_prices(None), "worker", "", say)
        models = await ModelPool(stack, spec, env, account, works=True).models(spec)
        network = await stack.enter_async_context(open_network(spec.bus, run="worker", most_at_once=cap))

        def ready() -> None:
            url = wire_of(spec.bus).redacted_url
            say(f"worker: {spec.model}, {spec.concurrency} at a time, for {url} (Ctrl-C ends it)")

        await work(network, models.task, models.optimizer, metrics=metrics, concurrency=spec.concurrency, ready=ready)
