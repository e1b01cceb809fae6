"""Settings that come as files, as container engines and orchestrators mount secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import Settings, SettingsError


def test_a_setting_is_read_from_a_file_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGHTWORD_ADMIN_KEY", raising=False)
    (tmp_path / "sightword_admin_key").write_text("a-key-of-the-secret-file\n", "utf-8")
    (tmp_path / "of_another_program").write_text("whatever", "utf-8")
    settings = Settings.read({}, tmp_path)
    assert settings.admin_key is not None
    assert settings.admin_key.get_secret_value() == "a-key-of-the-secret-file"


def test_flag_and_environment_win_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sightword_port").write_text("1111", "utf-8")
    assert Settings.read({}, tmp_path).port == 1111
    monkeypatch.setenv("SIGHTWORD_PORT", "2222")
    assert Settings.read({}, tmp_path).port == 2222
    assert Settings.read({"port": 3333}, tmp_path).port == 3333


def test_without_the_folder_there_are_none(tmp_path: Path) -> None:
    assert Settings.read({}, tmp_path / "missing").admin_key is None


def test_what_is_wrong_in_a_file_is_told_by_the_name_of_the_setting(tmp_path: Path) -> None:
    (tmp_path / "sightword_port").write_text("many", "utf-8")
    with pytest.raises(SettingsError, match="SIGHTWORD_PORT"):
        Settings.read({}, tmp_path)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "sightword_admin_key").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="UTF-8"):
        Settings.read({}, tmp_path)
