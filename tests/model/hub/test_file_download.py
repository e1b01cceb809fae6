"""One file from a server that breaks off, lies, redirects and refuses."""

from __future__ import annotations

import errno
import hashlib
import random
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from model.hub.errors import HubError, TransientError
from model.hub.file_download import DownloadLimits, RemoteFile, download_file, parse_range
from model.hub.http import create_client
from tests.model.hub.hub_server import Hub
from tests.model.hub.recorder import Recorder

LIMITS = DownloadLimits(retry_delays_s=(0.01, 0.01, 0.01))
CONTENT = random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def remote(hub: Hub) -> RemoteFile:
    hub.files["/model.pt"] = CONTENT
    return RemoteFile(f"{hub.url}/model.pt", "model.pt", len(CONTENT), SHA256)


def pull(
    remote: RemoteFile, folder: Path, reporter: Recorder, token: str | None = None, limits: DownloadLimits = LIMITS
) -> Path:
    with create_client(token) as client:
        return download_file(client, remote, folder, reporter, limits)


@pytest.mark.parametrize("told", ["size and hash", "hash", "nothing"])
def test_a_file_arrives_whole(hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder, told: str) -> None:
    size = len(CONTENT) if told == "size and hash" else None
    file = pull(RemoteFile(remote.url, "model.pt", size, None if told == "nothing" else SHA256), tmp_path, reporter)
    assert file.read_bytes() == CONTENT
    assert reporter.steps[-1] == ("model.pt", len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    assert "range" not in hub.requests[0].headers


def test_what_is_here_is_not_fetched_again(hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder) -> None:
    pull(remote, tmp_path, reporter)
    pull(remote, tmp_path, reporter)
    assert len(hub.requests) == 1


def test_what_is_here_and_wrong_is_fetched_again(remote: RemoteFile, tmp_path: Path, reporter: Recorder) -> None:
    (tmp_path / "model.pt").write_bytes(b"\0" + CONTENT[1:])
    assert pull(remote, tmp_path, reporter).read_bytes() == CONTENT


def test_a_connection_that_breaks_off_goes_on_where_it_ended(
    hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder
) -> None:
    hub.cut_after = [100_000, 50_000, 0]
    assert pull(remote, tmp_path, reporter).read_bytes() == CONTENT
    assert [request.headers.get("range") for request in hub.requests] == [
        None, "bytes=100000-", "bytes=150000-", "bytes=150000-",
    ]  # fmt: skip
    assert hub.sent("/model.pt") == len(CONTENT)
    assert len(reporter.notes) == 3


def test_progress_wipes_out_the_tries_before(hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder) -> None:
    hub.cut_after = [20_000] * 12
    assert pull(remote, tmp_path, reporter).read_bytes() == CONTENT


def test_it_gives_up_and_keeps_what_has_arrived(
    hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder
) -> None:
    hub.cut_after = [100_000, 0, 0, 0, 0]
    with pytest.raises(HubError, match=r"4 times in a row.*run the command again"):
        pull(remote, tmp_path, reporter)
    assert (tmp_path / "model.pt.partial").stat().st_size == 100_000
    hub.cut_after = []
    assert pull(remote, tmp_path, reporter).read_bytes() == CONTENT
    assert hub.sent("/model.pt") == len(CONTENT)


def test_a_server_that_knows_no_ranges(hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder) -> None:
    hub.cut_after, hub.ranges = [100_000], False
    assert pull(remote, tmp_path, reporter).read_bytes() == CONTENT
    assert hub.sent("/model.pt") == len(CONTENT) + 100_000


@pytest.mark.parametrize("downloaded", [len(CONTENT), len(CONTENT) + 5])
@pytest.mark.parametrize("known_size", [True, False])
def test_a_part_that_is_the_whole_or_more(
    hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder, downloaded: int, known_size: bool
) -> None:
    (tmp_path / "model.pt.partial").write_bytes((CONTENT + b"extra")[:downloaded])
    remote = RemoteFile(remote.url, remote.name, len(CONTENT) if known_size else None, SHA256)
    assert pull(remote, tmp_path, reporter).read_bytes() == CONTENT
    assert hub.sent("/model.pt") == (0 if downloaded == len(CONTENT) else len(CONTENT))


@pytest.mark.parametrize("statuses", [[503], [429, 500, 502]])
def test_a_busy_server_is_asked_again(
    hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder, statuses: list[int]
) -> None:
    hub.statuses = list(statuses)
    assert pull(remote, tmp_path, reporter).read_bytes() == CONTENT
    assert str(statuses[0]) in reporter.notes[0]


def test_a_host_that_is_not_there(tmp_path: Path, reporter: Recorder) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        port = taken.getsockname()[1]
        with pytest.raises(HubError, match=r"127\.0\.0\.1.*Connect"):
            pull(RemoteFile(f"http://127.0.0.1:{port}/model.pt", "model.pt"), tmp_path, reporter)


def test_other_bytes_are_removed_and_the_next_try_is_good(
    hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder
) -> None:
    hub.served_instead["model.pt"] = b"\0" + CONTENT[1:]
    with pytest.raises(HubError, match=r"model\.pt from 127\.0\.0\.1 does not have the published SHA-256"):
        pull(remote, tmp_path, reporter)
    assert list(tmp_path.iterdir()) == []
    hub.served_instead = {}
    assert pull(remote, tmp_path, reporter).read_bytes() == CONTENT


@pytest.mark.parametrize("downloaded", [b"of another file", b"\0" * len(CONTENT)])
def test_what_arrived_before_and_does_not_fit(
    hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder, downloaded: bytes
) -> None:
    (tmp_path / "model.pt.partial").write_bytes(downloaded)
    assert pull(remote, tmp_path, reporter).read_bytes() == CONTENT
    assert "beginning anew" in reporter.notes[0]


def test_the_hash_that_git_keeps_of_small_files(hub: Hub, tmp_path: Path, reporter: Recorder) -> None:
    hub.files["/config.json"] = b"{}\n"
    good = RemoteFile(f"{hub.url}/config.json", "config.json", 3, None, "0967ef424bce6791893e9a57bb952f80fd536e93")
    assert pull(good, tmp_path, reporter).read_bytes() == b"{}\n"
    hub.served_instead["config.json"] = b"[]\n"
    (tmp_path / "config.json").unlink()
    with pytest.raises(HubError, match=r"config\.json from .* does not have the published hash"):
        pull(good, tmp_path, reporter)


def test_a_server_that_announces_another_length(
    hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder
) -> None:
    hub.announces = 1000
    with pytest.raises(HubError, match=r"said to have 300000 bytes, but 127\.0\.0\.1 has 301000"):
        pull(remote, tmp_path, reporter)
    assert list(tmp_path.iterdir()) == []
    # Where the length is not published, the hash decides.
    assert pull(RemoteFile(remote.url, remote.name, None, SHA256), tmp_path, reporter).read_bytes() == CONTENT


def test_a_server_that_sends_more_than_there_is(
    hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder
) -> None:
    hub.served_instead["model.pt"] = CONTENT + b"more"
    with pytest.raises(HubError, match="said to have 300000 bytes"):
        pull(remote, tmp_path, reporter)
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.parametrize(("status", "told"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "not there"), (418, "418")])
def test_a_refusal_is_final_and_says_what_to_do(
    hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder, status: int, told: str
) -> None:
    hub.statuses = [status]
    with pytest.raises(HubError, match=told):
        pull(remote, tmp_path, reporter)
    assert len(hub.requests) == 1


def test_the_token_stays_with_the_host_it_is_for(hub: Hub, tmp_path: Path, reporter: Recorder) -> None:
    hub.repos["org/name"] = {"model.safetensors": CONTENT}
    hub.token = "hf_of_a_person"
    url = f"{hub.url}/org/name/resolve/{'c0ffee' * 6}beef/model.safetensors"
    file = pull(RemoteFile(url, "model.safetensors", len(CONTENT), SHA256), tmp_path, reporter, hub.token)
    assert file.read_bytes() == CONTENT
    asked, redirected = hub.requests
    assert asked.headers["authorization"] == "Bearer hf_of_a_person"
    assert "hf_of_a_person" not in str(redirected)
    assert redirected.sent == len(CONTENT)


def test_redirects_without_end(hub: Hub, tmp_path: Path, reporter: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos["org/name"] = {"model.safetensors": CONTENT}
    hub.cdn_url = f"{hub.url}/org/name/resolve/{'c0ffee' * 6}beef/model.safetensors?again="
    with pytest.raises(HubError, match="redirects"):
        pull(RemoteFile(hub.cdn_url.partition("?")[0], "model.safetensors"), tmp_path, reporter)


def test_too_little_room_is_told_before(
    remote: RemoteFile, tmp_path: Path, reporter: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(HubError, match="SIGHTWORD_HOME"):
        pull(remote, tmp_path, reporter)


def test_a_disk_that_is_full_after_all(
    remote: RemoteFile, tmp_path: Path, reporter: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(reporter, "progress", full)
    with pytest.raises(HubError, match="the disk is full"):
        pull(remote, tmp_path, reporter)


def test_a_header_that_cannot_be_sent_is_not_repeated(remote: RemoteFile, tmp_path: Path, reporter: Recorder) -> None:
    with pytest.raises(HubError, match=r"model\.pt could not be asked for") as refused:
        pull(remote, tmp_path, reporter, "hf_SECRET\n")
    assert not isinstance(refused.value, TransientError)
    assert "SECRET" not in f"{refused.value} {reporter.notes}"
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("ALL_PROXY", "socks5://me:SECRET@127.0.0.1:1"),
        ("HTTPS_PROXY", "socks://127.0.0.1:1"),
        ("HTTPS_PROXY", "http://me:SEC/RET@127.0.0.1:1"),
    ],
)
def test_a_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, variable: str, address: str) -> None:
    monkeypatch.setenv(variable, address)
    with pytest.raises(HubError, match=variable) as refused:
        create_client()
    assert "SEC" not in str(refused.value)


def test_a_file_of_no_bytes(hub: Hub, tmp_path: Path, reporter: Recorder) -> None:
    hub.files["/merges.txt"] = b""
    for folder, size in ((tmp_path / "known", 0), (tmp_path / "unknown", None)):
        assert pull(RemoteFile(f"{hub.url}/merges.txt", "merges.txt", size), folder, reporter).read_bytes() == b""


def test_a_server_that_refuses_a_range_nobody_asked_for(
    hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder
) -> None:
    hub.statuses = [416]
    assert pull(remote, tmp_path, reporter).read_bytes() == CONTENT


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 20, "1_0", "+5", "-5", "0x10", "5.0", "\u00b2", ""])
def test_lengths_that_are_no_numbers(number: str) -> None:
    """None becomes a traceback: one that says nothing of where a body begins is as if it said so."""
    request = httpx2.Request("GET", "http://hub.example/model.pt")
    with pytest.raises(HubError, match="sent a Content-Length that is no number"):
        parse_range(httpx2.Response(200, headers={"content-length": number.encode("latin-1")}, request=request))
    for value in (f"bytes {number}-5/10", f"bytes 0-{number}/10", f"bytes 0-5/{number}", f"bytes */{number}"):
        assert parse_range(
            httpx2.Response(206, headers={"content-range": value.encode("latin-1")}, request=request)
        ) == (
            -1,
            None,
        )


def test_a_server_that_sends_next_to_nothing(hub: Hub, remote: RemoteFile, tmp_path: Path, reporter: Recorder) -> None:
    """A file that would take days is not waited for: each try goes on where the last one ended."""
    hub.files["/slow/model.safetensors"] = CONTENT
    hub.pause_s = 0.3
    slow = RemoteFile(f"{hub.url}/slow/model.safetensors", "model.safetensors", len(CONTENT), SHA256)
    with suppress(HubError):
        pull(slow, tmp_path, reporter, limits=DownloadLimits(2**30, 0.2, retry_delays_s=(0.0, 0.0)))
    assert any("bytes in 0.2 s" in note for note in reporter.notes)
