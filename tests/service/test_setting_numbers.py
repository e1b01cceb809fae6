"""Numbers of settings: within their range, or refused by the setting's name."""

from __future__ import annotations

import pytest
from pydantic.fields import FieldInfo

from service.settings import Settings, SettingsError

NONSENSE = ["nan", "inf", "-inf", "1e400", "-1", "1" + "0" * 30, "9" * 5000, "0x10", "", "true", "5 MiB"]
NUMBERS = [name for name, field in Settings.model_fields.items() if field.annotation in (int, float, int | None)]


def field(name: str) -> FieldInfo:
    return Settings.model_fields[name]


def test_every_number_is_here() -> None:
    assert {"port", "cache_bytes", "timeout_s", "max_batch"} <= set(NUMBERS)
    assert len(NUMBERS) >= 12


@pytest.mark.parametrize("value", NONSENSE, ids=lambda value: value[:12])
@pytest.mark.parametrize("name", NUMBERS)
def test_nonsense_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SIGHTWORD_{name.upper()}", value)
    with pytest.raises(SettingsError, match=f"SIGHTWORD_{name.upper()}") as caught:
        Settings.read({})
    assert len(str(caught.value)) < 300
