"""Where the service is and what opens it: from arguments or the environment, and never shown."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

import sightword
from benchmarks.service_process import Running, running
from model.environment import CLIENT, PREFIX
from sightword import errors
from sightword.errors import InvalidApiKeyError, SightwordError
from tests.client.bad_line import BadLine, answer

KEY = "a-secret-0123456789"


@pytest.fixture(scope="module")
def locked(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("locked"), bundle_path, api_keys=KEY) as service:
        yield service


def test_both_come_from_the_environment(locked: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {f"{PREFIX}{name}" for name in CLIENT} == {"SIGHTWORD_URL", "SIGHTWORD_API_KEY"}
    monkeypatch.setenv("SIGHTWORD_URL", f"{locked.url}/")
    with sightword.Client() as client, pytest.raises(InvalidApiKeyError, match="Send one valid API key") as refused:
        client.embed("a cat")
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")
    assert refused.value.request_id
    monkeypatch.setenv("SIGHTWORD_API_KEY", KEY)
    with sightword.Client() as client:
        assert client.embed("a cat").shape[0] == 1
    with sightword.Client(api_key="another") as client, pytest.raises(InvalidApiKeyError):
        client.embed("a cat")


def test_without_either_it_is_the_address_of_a_service_on_this_machine() -> None:
    with sightword.Client() as client:
        assert repr(client) == "Client('http://127.0.0.1:8000')"


def test_neither_key_nor_password_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Not by `repr`, not by an error, not by a log."""
    with caplog.at_level(logging.DEBUG), sightword.Client("http://me:hidden@127.0.0.1:9/x", KEY, timeout_s=1) as client:
        try:
            client.embed("a cat")
        except SightwordError:
            shown = traceback.format_exc()
        assert repr(client) == "Client('http://127.0.0.1:9/x')"
        shown += repr(client._connection) + repr(vars(client)) + caplog.text
    assert "Nothing answers at http://127.0.0.1:9/x" in shown
    assert KEY not in shown
    assert "hidden" not in shown


def test_a_path_in_the_url_is_kept_and_redirects_are_not_followed(line: BadLine) -> None:
    line.script.append(answer(302, location="http://127.0.0.1:9/"))
    elsewhere = pytest.raises(errors.UnexpectedAnswerError, match="leads elsewhere")
    with sightword.Client(f"{line.url}/clip/", KEY) as client, elsewhere:
        client.info()
    [(_, path, headers, _)] = line.seen
    assert path == "/clip/info"
    assert headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "http://", "/embed"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match="with http:// or https:// in front"):
        sightword.Client(url)


@pytest.mark.parametrize("key", ["a b", "a\nb", "äö", " ab"])
def test_what_is_no_key_is_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="characters that a header cannot") as refused:
        sightword.Client(api_key=key)
    assert key not in str(refused.value)


@pytest.mark.parametrize("wrong", [{"timeout_s": 0}, {"concurrency": 0}])
def test_numbers_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="is above 0"):
        sightword.Client(**wrong)  # type: ignore[arg-type]


def test_errors_have_a_class_for_each_code_of_the_service() -> None:
    from service.errors import ERROR_KINDS

    ours = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SightwordError)}
    of_other_calls = {"invalid_bundle", "unsupported_media_type", "method_not_allowed", "not_found"}
    of_other_calls |= {"unsupported_task", "upstream_failed"}  # those of immich
    assert ours >= ERROR_KINDS.keys() - of_other_calls
    for code in ERROR_KINDS:
        error = errors.from_detail({"code": code, "message": "So.", "param": "inputs.1"}, status=422, params=["a", "b"])
        assert (error.code, error.param, str(error)) == (code, "b", "b: So.")


def test_errors_pass_between_processes() -> None:
    error = errors.from_detail({"code": "invalid_image", "message": "So.", "param": None}, status=422, request_id="r")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is errors.InvalidImageError
    assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, b"<html>busy", errors.UnavailableError),
        (429, b"", errors.OverloadedError),
        (404, b"<html>nothing here", errors.UnexpectedAnswerError),
        (500, b'{"error": "text"}', errors.UnexpectedAnswerError),
        (422, b"[]", errors.UnexpectedAnswerError),
        (400, b'{"error": {"code": "new", "message": "So."}}', errors.RefusedError),
        (599, b'{"error": {"code": "new", "message": "So."}}', SightwordError),
    ],
)
def test_errors_that_are_not_of_the_service(status: int, body: bytes, kind: type[SightwordError]) -> None:
    error = errors.from_answer(status, {}, body)
    assert type(error) is kind
    assert error.status == status
