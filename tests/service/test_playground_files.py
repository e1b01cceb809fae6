"""The files of the page at /, as they are sent."""

from __future__ import annotations

import httpx
import pytest


def test_it_is_sent_with_care(client: httpx.Client) -> None:
    home = client.get("/")
    assert home.headers["content-type"] == "text/html; charset=utf-8"
    policy = home.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert {"form-action 'none'", "frame-ancestors 'none'", "base-uri 'none'"} <= set(policy.split("; "))
    assert home.headers["x-content-type-options"] == "nosniff"
    assert client.get("/", headers={"if-none-match": home.headers["etag"]}).status_code == 304
    assert client.head("/").headers["content-length"] == str(len(home.content))
    script = client.get("/playground/playground.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert not {"/", "/playground/{path}"} & set(client.get("/openapi.json").json()["paths"])


@pytest.mark.parametrize("path", ["none.js", "..%2fsettings.py", "%2e%2e/settings.py", "samples/README.md", ""])
def test_nothing_else_lies_beside_it(client: httpx.Client, path: str) -> None:
    missing = client.get(f"/playground/{path}")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "not_found"
