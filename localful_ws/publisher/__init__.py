"""Publishing from an HTTP API in Python: the queue, the ids and the trying again.

On Trio and asyncio:

    async with open_publisher("http://127.0.0.1:42103", key, on_refused=tell_somebody) as publisher:
        publisher.publish({"event": "item-create", "user": user, "vault": vault, "data": {"id": item}})

With threads, or with nothing:

    publisher = ThreadPublisher("http://127.0.0.1:42103", key, on_refused=tell_somebody)

``publish`` returns at once. Events leave in the order in which they were published, in batches when many
wait, again and again until the server has answered, with ids that make this harmless. What the server refuses
is handed back. docs/publishing.md has the rules. What waits is in memory: where no event may be lost with the
process, use an outbox (docs/outbox.md).
"""

from localful_ws.publisher.errors import (
    EventRefusedError,
    PublisherClosedError,
    PublisherError,
    QueueFullError,
)
from localful_ws.publisher.publisher import Publisher, open_publisher
from localful_ws.publisher.queue import OnRefused, OnTrouble, PublisherLimits
from localful_ws.publisher.threads import ThreadPublisher

__all__ = [
    "EventRefusedError",
    "OnRefused",
    "OnTrouble",
    "Publisher",
    "PublisherClosedError",
    "PublisherError",
    "PublisherLimits",
    "QueueFullError",
    "ThreadPublisher",
    "open_publisher",
]
