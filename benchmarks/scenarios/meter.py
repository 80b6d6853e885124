"""CPU time from one moment to another: the server's, that of the Redis beside it, and the client's own."""

import time

from benchmarks.running import Running


class Meter:
    """Starts when it is made.

    Args:
        server: Which server, and which Redis.
    """

    def __init__(self, server: Running) -> None:
        self._server = server
        self._started = time.monotonic()
        self._client = time.process_time_ns()
        self._redis = 0 if server.redis is None else server.redis.cpu()
        self._cpu = server.cpu()

    def per(self, name: str, count: float) -> dict[str, float]:
        """CPU time so far for each of `count` things, in microseconds.

        Returns:
            `NAME_us`, the server's, and `NAME_redis_us` where there is a Redis.
        """
        spent, redis, _client = self._spent()
        return self._named(name, "us", spent / 1000 / count, None if redis is None else redis / 1000 / count)

    def cores(self, name: str) -> dict[str, float]:
        """How many cores were busy on average.

        Returns:
            `NAME_cores`, the server's, `NAME_redis_cores` where there is a Redis, and `NAME_client_cores`.
        """
        spent, redis, client = self._spent()
        elapsed = self.seconds() * 1e9
        figures = self._named(name, "cores", spent / elapsed, None if redis is None else redis / elapsed)
        return figures | {f"{name}_client_cores": client / elapsed}

    def seconds(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self._started

    def _spent(self) -> tuple[int, int | None, int]:
        redis = self._server.redis
        return (
            self._server.cpu() - self._cpu,
            None if redis is None else redis.cpu() - self._redis,
            time.process_time_ns() - self._client,
        )

    def _named(self, name: str, unit: str, server: float, redis: float | None) -> dict[str, float]:
        figures = {f"{name}_{unit}": server}
        return figures if redis is None else figures | {f"{name}_redis_{unit}": redis}
