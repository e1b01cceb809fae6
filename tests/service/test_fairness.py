"""A client that sends 512 items at a time, and one that sends single items meanwhile."""

from __future__ import annotations

import asyncio
import itertools

import httpx

from benchmarks.service_process import Running

LARGE_REQUESTS, ITEMS = 3, 512


def large(number: int) -> dict[str, list[str]]:
    return {"inputs": [f"request {number} item {item} " + "and so on " * 10 for item in range(ITEMS)]}


def test_single_items_overtake_large_requests(service: Running) -> None:
    """Compared by order, not by time: many single items are answered in the time of one large request."""
    finished: list[str] = []

    async def send_large(client: httpx.AsyncClient) -> None:
        for number in range(LARGE_REQUESTS):
            answer = await client.post("/embed", json=large(number))
            assert answer.status_code == 200
            assert len(answer.json()["data"]) == ITEMS
            finished.append("large")

    async def send_single(client: httpx.AsyncClient, sending: asyncio.Task[None]) -> None:
        for number in itertools.count():
            if sending.done():
                break
            answer = await client.post("/embed", json={"inputs": f"a single item {number}"})
            assert answer.status_code == 200
            finished.append("single")

    async def scenario() -> None:
        async with httpx.AsyncClient(base_url=service.url, timeout=120) as client:
            sending = asyncio.create_task(send_large(client))
            await send_single(client, sending)
            await sending

    asyncio.run(scenario())
    ends = [index for index, kind in enumerate(finished) if kind == "large"]
    assert len(ends) == LARGE_REQUESTS  # and the large ones do not starve
    for before, after in itertools.pairwise([-1, *ends]):
        assert after - before > 3, finished
