"""HTTP as the hub needs it: a client that keeps its token to one host, streamed answers, and retries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import httpx2

from model import __version__
from model.hub.errors import HubError, RefusedError, TransientError

RETRY_DELAYS_S = (1.0, 2.0, 4.0, 8.0)  # before each further try
_TRANSIENT_STATUSES = (408, 425, 429, 500, 502, 503, 504)
_ADVICE = {
    401: "it is private, has terms to accept, or is not there. Accept the terms on its page, and set HF_TOKEN to a "
    "token that may read it",
    403: "permission is missing. Accept the terms on its page, and set HF_TOKEN to a token that may read it",
    404: "it is not there. Check the name and the revision",
}
T = TypeVar("T")


class ProgressReporter(Protocol):
    """Shows how a download goes."""

    def progress(self, file: str, done: int, total: int | None) -> None:
        """`done` bytes of a file are on this machine, of `total` where that is known."""

    def note(self, message: str) -> None:
        """Show a message: where a model comes from, a retry, a file without a published hash."""


def create_client(token: str | None = None) -> httpx2.Client:
    """A client that sends `token` to the host it asks and to none that it is redirected to.

    Raises HubError for a proxy, named in the environment, that cannot be used.
    """
    headers = {"User-Agent": f"sightword/{__version__}", "Accept-Encoding": "identity"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    try:
        return httpx2.Client(headers=headers, follow_redirects=True, max_redirects=5, timeout=30.0)
    except (ImportError, ValueError, httpx2.InvalidURL):  # whose texts may hold the proxy's password
        raise HubError(
            "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY cannot be used: it should be an address such as "
            "http://host:port, and not one of SOCKS"
        ) from None


@contextmanager
def stream_get(
    client: httpx2.Client, url: str, name: str, headers: dict[str, str] | None = None
) -> Iterator[httpx2.Response]:
    """The response to a GET, its body not read yet; errors call what was asked for `name`.

    Raises TransientError for what a retry may mend, else HubError; neither shows the query of an address.
    """
    try:
        with client.stream("GET", url, headers=headers) as response:
            status, host = response.status_code, response.url.host
            if status in _TRANSIENT_STATUSES:
                raise TransientError(f"{host} answered {status} for {name}")
            if status not in (200, 206, 416):
                raise RefusedError(f"{host} answered {status} for {name}: {_ADVICE.get(status, 'that is no file')}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise HubError(f"{host} sent {name} compressed, unasked")
            yield response
    except httpx2.LocalProtocolError:  # its text repeats headers, of which one is the token
        raise HubError(f"{name} could not be asked for: the request had a header that cannot be sent") from None
    except httpx2.TransportError as error:
        host = httpx2.URL(url).host
        raise TransientError(f"{name} could not be had from {host} ({type(error).__name__}: {error})") from error
    except (httpx2.TooManyRedirects, httpx2.InvalidURL) as error:
        raise RefusedError(f"{name} could not be had: {error}") from error


def retry(
    action: Callable[[], T],
    reporter: ProgressReporter,
    delays_s: Sequence[float] = RETRY_DELAYS_S,
    done: Callable[[], int] = lambda: 0,
) -> T:
    """The result of `action`, called again after each TransientError; tries are counted anew whenever `done` grew.

    Raises RefusedError after len(delays_s) + 1 tries in a row without progress.
    """
    tries = 0
    while True:
        before = done()
        try:
            return action()
        except TransientError as error:
            tries = 0 if done() > before else tries
            if tries == len(delays_s):
                raise RefusedError(
                    f"{error}, {tries + 1} times in a row. What has arrived is kept: run the command again to go on"
                ) from None
            reporter.note(f"{error}; trying again in {delays_s[tries]:g} s")
            time.sleep(delays_s[tries])
            tries += 1
