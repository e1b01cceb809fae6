"""Every setting of the service, and the test in which changing it changes the outcome. Those without one are here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.service_process import PATIENCE_S, Running, clean_environment, free_port, running
from model.environment import HUGGING_FACE
from model.hub.settings import VARIABLES
from service.settings import Settings
from tests.service.test_label_sets import error_of
from tests.settings_table import check_table


def _test(file: str, name: str, folder: str = "service") -> str:
    return f"tests/{folder}/test_{file}.py::{name}"


SETTINGS = {
    "host": ("the address that is listened on", _test("settings_table", "test_host_and_port")),
    "port": ("the port that is listened on", _test("settings_table", "test_host_and_port")),
    "root_path": ("/docs and the schema", _test("root_path", "test_the_schema_says_where_its_paths_stand")),
    "model": ("which models are served", _test("reload", "test_two_models_at_once")),
    "provider": ("what computes", _test("lifecycle", "test_a_provider_that_is_not_there_stops_the_start")),
    "model_aliases": ("names of models", _test("compatible_apis", "test_a_model_answers_to_its_aliases")),
    "apis": ("which APIs there are", _test("compatible_apis", "test_apis_that_are_off_are_not_there")),
    "predict_route": ("a path of /invocations", _test("sagemaker", "test_variables_of_platforms_come_after_ours")),
    "health_route": ("a path of /health/ready", _test("sagemaker", "test_vertex_chooses_the_paths")),
    "immich_forward_url": ("where faces are found", _test("immich", "test_faces_are_passed_on")),
    "api_keys": ("who is let in", _test("keys", "test_every_route_and_every_kind_of_key")),
    "api_keys_file": ("who is let in", _test("keys", "test_keys_come_and_go_with_the_file")),
    "admin_key": ("who may administer", _test("keys", "test_without_an_admin_key_the_admin_routes_are_closed")),
    "redis_url": ("where vectors are shared", _test("redis_start", "test_the_service_asks_before_it_listens")),
    "redis_prefix": ("names in Redis", _test("label_sets_redis", "test_one_replica_sees_what_another_stores")),
    "cache_bytes": ("whether vectors are kept", _test("settings_table", "test_cache_bytes")),
    "cache_ttl_s": ("for how long", _test("settings_table", "test_cache_ttl_s")),
    "label_sets": ("where they are", _test("label_sets_stored", "test_what_is_stored_outlives_the_process")),
    "url_hosts": ("which URLs are fetched", _test("fetch_service", "test_off_unless_hosts_are_listed")),
    "url_networks": (
        "from which addresses",
        _test("fetch_service", "test_no_form_of_a_private_address_is_connected_to"),
    ),
    "max_body_bytes": ("the largest body", _test("settings_table", "test_limits")),
    "decoder": ("how pictures are resized", _test("decoder", "test_the_setting_chooses_what_resizes")),
    "max_image_pixels": ("the largest picture", _test("errors", "test_pixels_are_counted_from_the_header")),
    "max_items": ("the longest list", _test("settings_table", "test_limits")),
    "max_compatible_items": ("the longest list", _test("compatible_apis", "test_as_many_items_as_openai_takes")),
    "max_labels": ("most labels", _test("settings_table", "test_limits")),
    "queue_items": ("what is refused when busy", _test("load", "test_a_full_queue_refuses_at_once")),
    "queue_bytes": ("bodies held", _test("overload", "test_bytes_are_admitted_before_they_are_received")),
    "max_batch": ("items of one run", _test("settings_table", "test_max_batch")),
    "timeout_s": ("when 504 comes", _test("load", "test_the_servers_deadline")),
    "drain_s": ("the end", _test("lifecycle", "test_what_is_not_done_by_the_end_of_the_drain_is_told")),
    "truncate": ("long texts", _test("settings_table", "test_truncate")),
    "device": ("which GPU", _test("gpu_settings", "test_the_device_reaches_the_engine")),
    "gpu_memory_bytes": ("how much of it", _test("gpu_settings", "test_the_memory_is_divided_among_all_arenas")),
    "workers": ("how many processes serve", _test("workers", "test_kept_connections_are_spread_evenly")),
    "log_format": ("lines of the log", _test("settings_table", "test_log_format")),
}
HUB = {
    "SIGHTWORD_HOME": ("their folder", _test("pull_and_serve", "test_a_name_is_pulled_converted_verified_and_served")),
    "SIGHTWORD_OFFLINE": ("no connection", _test("download", "test_offline_nothing_is_asked", "model/hub")),
    "SIGHTWORD_OFFLINE_FOLDER": ("files from there", _test("download", "test_an_offline_folder", "model/hub")),
    "SIGHTWORD_OPENAI_MIRROR": (
        "another place",
        _test("download", "test_a_mirror_of_openais_files_is_asked_and_not_trusted", "model/hub"),
    ),
    "HF_ENDPOINT": ("another hub", _test("pull", "test_a_model_of_the_hub_becomes_a_bundle", "model/hub")),
    "HF_TOKEN": ("who asks", _test("download", "test_a_model_with_terms_to_accept", "model/hub")),
    "HF_HUB_OFFLINE": ("no connection", _test("download", "test_offline_nothing_is_asked", "model/hub")),
}
FIXED_LIMITS = {
    "max_text_characters": ("what is read of a text", _test("settings_table", "test_texts_have_a_most_of_characters")),
    "max_predictions": ("the largest answer", _test("errors", "test_an_answer_of_too_many_predictions")),
    "max_label_sets": ("most label sets", _test("label_sets_limit", "test_only_as_many_as_there_is_room_for")),
}


def test_every_setting_has_a_test() -> None:
    check_table(SETTINGS, Settings.model_fields)


def test_every_variable_of_the_hub_has_a_test() -> None:
    check_table(HUB, [*VARIABLES, *HUGGING_FACE])


def test_every_fixed_limit_has_a_test() -> None:
    settings = Settings.read({})
    check_table(FIXED_LIMITS, settings.limits().keys() - Settings.model_fields.keys())
    assert settings.limits().keys() & Settings.model_fields.keys() <= SETTINGS.keys()


@pytest.fixture(scope="module")
def changed(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {"cache_bytes": "0", "max_batch": "1", "truncate": "true", "log_format": "text", "timeout_s": "300"}
    with running(tmp_path_factory.mktemp("changed"), bundle_path, **settings) as service:
        yield service


def embed(service: Running, *inputs: str, **options: object) -> httpx.Response:
    return httpx.post(f"{service.url}/embed", json={"inputs": inputs, **options}, timeout=PATIENCE_S)


def computed(service: Running, *inputs: str) -> float:
    """How many texts the model was given for that request."""
    before = service.metric("sightword_inference_items_total", tower="text")
    assert embed(service, *inputs).status_code == 200
    return service.metric("sightword_inference_items_total", tower="text") - before


def test_host_and_port(bundle_path: Path, tmp_path: Path) -> None:
    for host, other in (("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.1")):
        port, log = free_port(), tmp_path / f"{host}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "service", "--host", host, "--port", str(port)],
                env=clean_environment({"model": str(bundle_path), "label_sets": str(tmp_path / "sets")}),
                stderr=stream,
            )
        try:
            ends = time.monotonic() + PATIENCE_S
            while not re.search(rf"running on http://{re.escape(host)}:{port}\b", log.read_text()):
                assert time.monotonic() < ends
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
            assert httpx.get(f"http://{host}:{port}/health/live", timeout=PATIENCE_S).status_code == 200
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"http://{other}:{port}/health/live", timeout=PATIENCE_S)
        finally:
            process.kill()
            process.wait()


def test_cache_bytes(service: Running, changed: Running) -> None:
    text = f"kept or not {os.urandom(8).hex()}"
    assert [computed(service, text) for _ in range(2)] == [1, 0]
    assert [computed(changed, text) for _ in range(2)] == [1, 1]


def test_cache_ttl_s(service: Running, bundle_path: Path, tmp_path: Path) -> None:
    text = f"kept for a while {os.urandom(8).hex()}"
    with running(tmp_path, bundle_path, cache_ttl_s="1") as brief:
        assert [computed(each, text) for each in (service, brief)] == [1, 1]
        time.sleep(1.5)
        assert [computed(each, text) for each in (service, brief)] == [0, 1]


def test_max_batch(service: Running, changed: Running) -> None:
    def runs(of: Running) -> float:
        before = of.metric("sightword_inference_executions_total", tower="text")
        assert computed(of, *(f"number {number} {os.urandom(2).hex()}" for number in range(16))) == 16
        return of.metric("sightword_inference_executions_total", tower="text") - before

    assert runs(changed) == 16
    assert runs(service) < 16


def test_truncate(service: Running, changed: Running) -> None:
    long = "cat " * 200
    assert embed(service, long).json()["error"]["code"] == "text_too_long"
    assert embed(changed, long).json()["data"][0]["truncated"] is True
    assert embed(service, long, truncate=True).json()["data"][0]["truncated"] is True
    assert embed(changed, long, truncate=False).json()["error"]["code"] == "text_too_long"


def test_log_format(service: Running, changed: Running) -> None:
    for each in (service, changed):
        embed(each, "a line")
    assert json.loads(service.log().splitlines()[-1])["route"] == "/embed"
    with pytest.raises(json.JSONDecodeError):
        json.loads(changed.log().splitlines()[-1])
    assert re.search(r"^\d\d:\d\d:\d\d INFO +\S.*/embed.* ms$", changed.log(), re.MULTILINE)


@pytest.mark.parametrize(
    ("path", "body", "refusal"),
    [
        ("/embed", {"inputs": ["a"] * 33}, (422, "too_many_inputs", "inputs")),
        ("/classify", {"inputs": "a", "labels": [f"label {n}" for n in range(21)]}, (422, "too_many_inputs", "labels")),
        ("/embed", {"inputs": "a" + " " * 400_000, "truncate": True}, (413, "body_too_large", None)),
    ],
)
def test_limits(
    path: str, body: dict[str, object], refusal: tuple[int, str, str | None], service: Running, narrow: Running
) -> None:
    """`narrow` has lower ones: what it refuses by them, a service with the defaults does not."""
    answers = [httpx.post(f"{each.url}{path}", json=body, timeout=PATIENCE_S) for each in (service, narrow)]
    assert answers[0].status_code == 200 or error_of(answers[0]) != refusal
    assert error_of(answers[1]) == refusal


def test_texts_have_a_most_of_characters(service: Running) -> None:
    """What stands behind them is not read, which `truncate` allows."""
    most = httpx.get(f"{service.url}/info").json()["limits"]["max_text_characters"]
    within, beyond = ("cat" + " " * (most - left) + "dog" for left in (6, 3))
    plain, read, cut = embed(service, "cat", within, beyond, truncate=True).json()["data"]
    assert (read["truncated"], cut["truncated"]) == (False, True)
    assert read["embedding"] != plain["embedding"] == cut["embedding"]
