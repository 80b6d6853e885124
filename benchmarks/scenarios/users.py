"""Many users with few devices: what an event costs when most of it is finding out whom to tell."""

import random

from benchmarks.model import Event, EventSource, devices_of
from benchmarks.running import Running
from benchmarks.scenarios.common import WINDOW, Result, client_of, publisher_of
from benchmarks.scenarios.meter import Meter
from benchmarks.sizes import Sizes

WARM_UP = 5


def run(server: Running, sizes: Sizes, _limit: int, alternation: int) -> Result:
    """Publish batches of events for random users, each made by one of the user's two devices.

    Every event is delivered once, to the other device. CPU per delivered event is all of the server's CPU
    time, the HTTP requests included.
    """
    choose = random.Random(alternation)
    specs = list(devices_of("user", 0, 2 * sizes.users))
    source = EventSource()

    def event() -> Event:
        origin = choose.choice(specs)
        return source.make(origin.user, choose.choice(origin.vaults), origin.group)

    with client_of(server) as client:
        client.connect(client.prepare(specs), window=WINDOW, timeout=sizes.connect_timeout)
        with publisher_of(client) as publisher:
            for _batch in range(WARM_UP):
                publisher.publish_and_wait([event() for _index in range(sizes.batch)])
            batches = [[event() for _index in range(sizes.batch)] for _batch in range(sizes.user_batches)]
            client.settle(0.1)
            meter, posts = Meter(server), publisher.posts
            deliveries = sum(publisher.publish_and_wait(batch) for batch in batches)
            client.settle(0.02)
            metrics = {
                **meter.per("event", deliveries),
                "event_posts": publisher.posts - posts,
                "event_deliveries": deliveries,
                "events_per_second": deliveries / meter.seconds(),
            }
            client.settle(0.3)
            posts = publisher.posts
        return Result(metrics=metrics, checked=client.ledger.verify(), posts=posts)
