"""docs/clients.md says what the tests of the clients say."""

from __future__ import annotations

from tests.sdks import page


def test_the_page_is_what_the_tests_declare() -> None:
    """Where it is not, `python -m tests.sdks.page` writes it anew."""
    written = page.PAGE.read_text("utf-8")
    assert written == page.with_tables(written)


def test_every_row_has_tests_a_version_and_a_setting() -> None:
    rows = page.rows()
    assert rows
    for client, works, file in rows:
        assert works, f"{client.name} in {file} has no test"
        assert client.versions(), f"{client.package} is pinned in no environment"
        assert "localhost:8000" in client.setting
