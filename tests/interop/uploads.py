"""Large batches at once: ``python -m tests.interop.uploads <port> <number> <bytes>``.

Each is sent over a connection of its own, from its own thread, which reads nothing before all is sent. In
the end a line is printed for each: its status and its header Retry-After, or what went wrong.
"""

import http.client
import json
import sys
import threading

from tests.interop.publishing import AUTHORIZATION

TIMEOUT = 100
BATCH = 1000


def batch(user: str, size: int) -> bytes:
    """A body of that size, of as many events as there may be."""
    event = {"event": "user-update", "user": user, "data": ""}
    empty = len(json.dumps({"events": [event] * BATCH}))
    event["data"] = "x" * ((size - empty) // BATCH)
    return json.dumps({"events": [event] * BATCH}).encode().ljust(size)


def main() -> None:
    """Send them."""
    port, number, size = map(int, sys.argv[1:])
    body = batch("bulk", size)
    answers: list[str] = []
    together = threading.Barrier(number)

    def upload() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        connection.connect()
        together.wait(TIMEOUT)
        try:
            connection.request("POST", "/v1/events", body, {"Authorization": AUTHORIZATION})
            answer = connection.getresponse()
            answer.read()
            told = f"{answer.status} {answer.headers['Retry-After']}"
        except OSError as error:
            told = type(error).__name__
        connection.close()
        answers.append(told)

    threads = [threading.Thread(target=upload) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("\n".join(answers))


if __name__ == "__main__":
    main()
