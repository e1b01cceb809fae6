"""Messages about a misspelt name offer the nearest right one."""

from __future__ import annotations

import pytest

from model.suggestions import did_you_mean

NAMES = ["learning_rate", "weight_decay", "warmup_steps", "SIGHTWORD_PORT"]


@pytest.mark.parametrize(
    ("wrong", "offer"),
    [
        ("learning_rte", "did you mean learning_rate?"),
        ("sightword_prot", "did you mean SIGHTWORD_PORT?"),
        ("entirely other", ""),
        ("", ""),
    ],
)
def test_the_nearest_name_is_offered(wrong: str, offer: str) -> None:
    assert did_you_mean(wrong, NAMES) == offer
