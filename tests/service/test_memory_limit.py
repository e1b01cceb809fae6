"""A service in a container that is too small for what clients may send says so before they do."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from service.memory import container_limit, needed_bytes, warn_if_memory_is_short
from service.settings import Settings

V1, V2 = "memory/memory.limit_in_bytes", "memory.max"


@pytest.mark.parametrize(
    ("name", "content", "limit"),
    [
        (V2, "3221225472\n", 3 * 2**30),
        (V2, "max\n", None),
        (V1, "1073741824\n", 2**30),
        (V1, "9223372036854771712\n", None),
        (None, "", None),
    ],
)
def test_the_limit_of_the_container_is_read(tmp_path: Path, name: str | None, content: str, limit: int | None) -> None:
    if name:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, "ascii")
    assert container_limit(tmp_path) == limit


def test_a_limit_under_what_clients_can_make_it_need_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.read({})
    needed = needed_bytes(settings, cores=2)
    with caplog.at_level(logging.WARNING):
        warn_if_memory_is_short(settings, 2, None)
        warn_if_memory_is_short(settings, 2, needed)
        assert not caplog.records
        warn_if_memory_is_short(settings, 2, needed - 1)
    [record] = caplog.records
    assert "SIGHTWORD_MAX_IMAGE_PIXELS" in record.getMessage()


@pytest.mark.parametrize("name", ["max_image_pixels", "max_body_bytes", "queue_bytes", "cache_bytes"])
def test_each_setting_that_the_warning_names_lowers_the_need(name: str) -> None:
    default = Settings.read({})
    lower = Settings.read({name: getattr(default, name) // 2})
    assert needed_bytes(lower, cores=2) < needed_bytes(default, cores=2)


def test_workers_need_more_each_and_not_as_much_again() -> None:
    one, two, four = (needed_bytes(Settings.read({}), cores=8, workers=workers) for workers in (1, 2, 4))
    assert one < two < 2 * one
    assert four - two == 2 * (two - one)
