"""A folder of wheels that a build finds: torch without CUDA, which the package index does not have."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 38765  # always the same: a build with another argument is another build


def torch_wheels() -> Path | None:
    """The folder that PIP_FIND_LINKS names, where it is one on this machine and has a torch."""
    folder = Path(os.environ.get("PIP_FIND_LINKS", ""))
    return folder if folder.is_absolute() and any(folder.glob("torch-*+cpu-*.whl")) else None


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, ...]]:
    """Serve it to builds on this machine; gives the options of `docker build` by which they find it."""
    server = ThreadingHTTPServer(("127.0.0.1", PORT), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield "--network", "host", "--build-arg", f"PIP_FIND_LINKS=http://127.0.0.1:{PORT}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
