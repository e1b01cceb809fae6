"""Where the vectors of all adapters come from."""

from __future__ import annotations

from pathlib import Path

import pytest

import sightword
from benchmarks.service_process import Running
from sightword.adapters import open_model, picture
from sightword.errors import ConnectionFailedError, InvalidApiKeyError
from tests.adapters import KEY


def test_a_url_is_a_service_and_none_is_a_model_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert repr(open_model("http://127.0.0.1:9")) == "Client('http://127.0.0.1:9')"
    here = open_model()
    assert not isinstance(here, sightword.Client)
    monkeypatch.setenv("SIGHTWORD_URL", "http://127.0.0.1:10")
    assert repr(open_model()) == "Client('http://127.0.0.1:10')"
    monkeypatch.delenv("SIGHTWORD_URL")
    assert open_model() is here


def test_a_service_that_is_not_there_is_no_reason_for_a_model_here() -> None:
    with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:9"):
        open_model("http://127.0.0.1:9").embed("a cat")


def test_the_service_is_asked(service: Running) -> None:
    before = service.metric("sightword_requests_total", route="/embed")
    open_model(service.url).embed("a cat")
    assert service.metric("sightword_requests_total", route="/embed") == before + 1


def test_the_key_goes_with_it(locked: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidApiKeyError):
        open_model(locked.url).embed("a cat")
    assert len(open_model(locked.url, KEY).embed("a cat")) == 1
    monkeypatch.setenv("SIGHTWORD_API_KEY", KEY)
    assert len(open_model(locked.url).embed("a cat")) == 1


@pytest.mark.parametrize(
    ("uri", "path"), [("a b.jpg", "a b.jpg"), ("/x/a%20b.jpg", "/x/a%20b.jpg"), ("file:///x/a%20b.jpg", "/x/a b.jpg")]
)
def test_a_uri_is_a_file(uri: str, path: str) -> None:
    assert picture(uri) == Path(path)


def test_a_url_of_a_picture_is_for_the_service() -> None:
    image = picture("https://pictures.example/cat.jpg?size=2")
    assert isinstance(image, sightword.Image)
    assert image.url == "https://pictures.example/cat.jpg?size=2"
