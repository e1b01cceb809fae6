"""Clients that ask without a pause, and what became of each of their requests."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

CONNECT_S = 5.0  # a container that has ended does not refuse: nobody is at its address any more
ANSWER_S = 60.0


class Load:
    """Outcomes by name: 200, another status with the beginning of its answer, or `lost: …` for a request that was sent
    on an open connection and not answered.
    """

    def __init__(self, host: str, port: int, clients: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self._address = host, port
        self._since = time.monotonic()  # so that no cache has its texts
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(clients)]

    @property
    def lost(self) -> dict[str, int]:
        """All but the answered ones, and those that found nobody listening."""
        return {name: count for name, count in self.outcomes.items() if name not in ("200", "nobody listens")}

    @contextmanager
    def running(self) -> Iterator[Load]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(60)

    def _ask(self, number: int) -> None:
        connection: http.client.HTTPConnection | None = None
        count = 0
        while not self._stop.is_set():
            count += 1
            if connection is None:
                connection = http.client.HTTPConnection(*self._address, timeout=CONNECT_S)
                try:
                    connection.connect()
                    connection.sock.settimeout(ANSWER_S)
                except OSError:
                    self.outcomes["nobody listens"] += 1
                    connection = None
                    time.sleep(0.1)
                    continue
            body = json.dumps({"inputs": [f"text {count} of client {number} since {self._since}"]})
            try:
                connection.request("POST", "/embed", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                content = answer.read()
                refusal = "" if answer.status == 200 else f": {content[:200]!r}"  # who refused, and why
                self.outcomes[f"{answer.status}{refusal}"] += 1
                if answer.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.outcomes[f"lost: {error!r}"] += 1
                connection.close()
                connection = None
