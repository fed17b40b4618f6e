"""The JetStream stream that holds all requests, and a durable consumer for each topic: creation and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import nats.errors
from nats.js import api
from nats.js.errors import APIError, NotFoundError

from lpo_agent.errors import ConfigError

if TYPE_CHECKING:
    from nats.js import JetStreamContext

MAX_DELIVERIES: Final = 6
"""How often a request is delivered before it becomes a dead letter: it probably kills its workers."""
REQUEST_MAX_AGE: Final = 24 * 3600.0
"""Seconds after which the server drops a request that no worker has taken."""
DUPLICATE_WINDOW: Final = 120
"""Seconds for which the server remembers message ids and drops a message with the same id."""
UNLIMITED: Final = 100_000


def stream_name(prefix: str) -> str:
    """Return the name of the stream."""
    return prefix.upper()


def consumer_name(prefix: str, topic: str) -> str:
    """Return the name of a topic's consumer."""
    return f"{prefix}-{topic}"


async def ensure_stream(jetstream: JetStreamContext, prefix: str) -> None:
    """Create the stream if it does not exist; raises ConfigError if the server refuses or has no JetStream."""
    name = stream_name(prefix)
    config = api.StreamConfig(
        name=name,
        subjects=[f"{prefix}.ask.*.*"],
        retention=api.RetentionPolicy.WORK_QUEUE,
        storage=api.StorageType.FILE,
        max_age=REQUEST_MAX_AGE,
        duplicate_window=DUPLICATE_WINDOW,
    )
    try:
        await jetstream.add_stream(config)
    except APIError as exc:
        raise ConfigError(f"the NATS server refused the stream {name}: {exc.description}") from None
    except nats.errors.Error as exc:
        raise ConfigError(f"the NATS server has no JetStream ({type(exc).__name__}); start it with -js") from None


async def ensure_consumer(
    jetstream: JetStreamContext, prefix: str, topic: str, *, ack_wait: float, max_in_flight: int | None
) -> str:
    """Create the stream and the topic's consumer if they do not exist; return the consumer's name.

    ``ack_wait``: seconds without a sign of a worker after which its request is delivered again.
    ``max_in_flight``: how many requests all workers together may work on; None keeps the present limit.
    """
    await ensure_stream(jetstream, prefix)
    stream, name = stream_name(prefix), consumer_name(prefix, topic)
    config = api.ConsumerConfig(
        durable_name=name,
        filter_subject=f"{prefix}.ask.{topic}.*",
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=ack_wait,
        max_deliver=MAX_DELIVERIES + 1,
        max_ack_pending=max_in_flight or UNLIMITED,
        max_waiting=UNLIMITED,
    )
    try:
        await jetstream.consumer_info(stream, name)
        exists = True
    except NotFoundError:
        exists = False
    if not exists or max_in_flight is not None:
        await jetstream.add_consumer(stream, config)  # changes the limit of an existing consumer
    return name
