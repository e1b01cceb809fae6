"""The file of a comparison: what it changes, and what is wrong with it before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from tests.settings_table import Table, check_table
from tests.training.comparison.comparisons import RUNS, write_comparison
from training.comparison.config import CompareConfig, Measure, load_comparison
from training.config import ConfigError, Objective
from training.config.merging import merge_fields
from training.settings import CONFIGS

OF_PROBE = ("linear-probe", "few-shot", "transfer")
HERE = "tests/training/comparison"
CONFIG = f"{HERE}/test_comparison_config.py"
TABLE: Table = {
    "base": ("what is trained", f"{CONFIG}::test_every_run_is_the_base_with_what_it_changes"),
    "set": ("fields of all runs", f"{CONFIG}::test_every_run_is_the_base_with_what_it_changes"),
    "seeds": ("how often each is trained", f"{CONFIG}::test_every_run_is_the_base_with_what_it_changes"),
    "runs": ("what is compared", f"{CONFIG}::test_every_run_is_the_base_with_what_it_changes"),
    "measure.tasks": ("which figures", f"{HERE}/test_measure.py::test_what_is_measured_is_what_was_asked_for"),
    "measure.test": ("on which pictures", f"{HERE}/test_measure.py::test_what_is_measured_is_what_was_asked_for"),
    "measure.probe": ("linear probes", f"{HERE}/test_measure.py::test_what_is_measured_is_what_was_asked_for"),
    "measure.robustness": ("what is lost", f"{HERE}/test_measure.py::test_what_is_measured_is_what_was_asked_for"),
}


def test_every_field_has_a_test_in_which_it_changes_something() -> None:
    fields = [name for name in CompareConfig.model_fields if name != "measure"]
    check_table(TABLE, [*fields, *(f"measure.{name}" for name in Measure.model_fields)])


def test_every_run_is_the_base_with_what_it_changes(colours: Path, tiny: Path, tmp_path: Path) -> None:
    runs = {
        "clip": None,
        "siglip": {"objective": "sigmoid"},
        "slow": {"optimizer.learning_rate": 1e-5, "optimizer": {"weight_decay": 0.0}},
    }
    fields = {"runs": runs, "seeds": [2, 1], "set": {"steps": 7}}
    comparison = load_comparison(write_comparison(tmp_path, colours, tiny, **fields), tmp_path)
    names = [(each.run, each.seed, each.config.seed, each.config.name) for each in comparison.trainings]
    assert names == [(run, seed, seed, f"{run}-{seed}") for seed in (2, 1) for run in runs]
    clip, siglip, slow = (each.config for each in comparison.trainings[:3])
    assert {clip.steps, siglip.steps, slow.steps} == {7}
    assert (clip.objective.kind, siglip.objective.kind) == ("contrastive", "sigmoid")
    assert (slow.optimizer.learning_rate, slow.optimizer.weight_decay) == (1e-5, 0.0)
    assert slow.optimizer.warmup_steps == clip.optimizer.warmup_steps == 1
    unlike = [name for name in type(clip).model_fields if getattr(clip, name) != getattr(siglip, name)]
    assert unlike == ["name", "objective"]
    assert comparison.measure.test == {"colours": ["test-*.tar"]}
    assert clip.data.test == {}  # the comparison measures
    assert comparison.changes("slow") == {"optimizer.learning_rate": 1e-5, "optimizer.weight_decay": 0.0}
    assert all(comparison.other_batches(run) == [] for run in runs)


def test_a_run_begins_with_or_learns_from_the_bundle_of_an_earlier_one(
    colours: Path, tiny: Path, tmp_path: Path
) -> None:
    runs = {"first": {}, "further": {"start": "run/first"}, "taught": {"objective": {"teacher": "run/further"}}}
    file = write_comparison(tmp_path, colours, tiny, runs=runs, seeds=[0, 7])
    comparison = load_comparison(file, tmp_path / "out")
    configs = {(each.run, each.seed): each.config for each in comparison.trainings}
    assert configs["further", 7].start == str(tmp_path / "out" / "first-7" / "bundle")
    assert configs["taught", 0].objective.teacher == str(tmp_path / "out" / "further-0" / "bundle")
    for name, near in (("later", ""), ("furthr", r"\. did you mean further\?")):
        wrong = {**runs, "wrong": {"start": f"run/{name}"}, "later": {}}
        with pytest.raises(ConfigError, match=f"run wrong: start: there is no run '{name}' before this one{near}$"):
            load_comparison(write_comparison(tmp_path, colours, tiny, runs=wrong), tmp_path)


def test_a_run_whose_bundle_all_others_need_is_named_once(colours: Path, tiny: Path, tmp_path: Path) -> None:
    runs: dict[str, Any] = {
        "first": {"objective": {"teacher": None}},
        "taught": {},
        "ranked": {"objective": {"kind": "rank"}},
        "alone": {"objective": {"kind": "llip", "llip": {"heads": 2}, "teacher": None}},
    }
    fields = {"runs": runs, "set": {"objective.teacher": "run/first"}}
    comparison = load_comparison(write_comparison(tmp_path, colours, tiny, **fields), tmp_path)
    bundle = str(tmp_path / "first-0" / "bundle")
    assert [each.config.objective.teacher for each in comparison.trainings] == [None, bundle, bundle, None]


def test_a_run_with_other_batches_is_known(colours: Path, tiny: Path, tmp_path: Path) -> None:
    runs = {"clip": {}, "large": {"batch_size": 64, "data.store_pixels": 64}}
    comparison = load_comparison(write_comparison(tmp_path, colours, tiny, runs=runs), tmp_path)
    assert comparison.other_batches("large") == ["batch_size", "data.store_pixels"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"runs": {**RUNS, "odd": {"objective": "siglip"}}}, r"run odd: .*objective.kind: .* did you mean sigmoid\?"),
        ({"runs": {**RUNS, "odd": {"optimizer.lr": 1}}}, r"run odd: .*optimizer.lr: .* did you mean learning_rate\?"),
        ({"runs": {**RUNS, "odd": {"seed": 1}}}, "run odd: seed is said by seeds of the comparison"),
        ({"runs": {**RUNS, "odd": {"data": {"test": {"a": "b"}}}}}, "run odd: data.test.a is said by measure.test"),
        ({"set": {"name": "x"}}, "name is said by the name of the run"),
        ({"runs": {"a/b": {}}}, r"runs.a/b"),
        ({"runs": {"a": {}, "A": {}}}, "runs: names of runs, which are those of their folders"),
        ({"runs": {}}, "runs: "),
        ({"seeds": [1, 1]}, "seeds: a seed is there twice"),
        ({"seeds": []}, "seeds: "),
        ({"sets": {}}, "sets: there is no such field: did you mean set"),
        ({"base": "nowhere.yaml"}, "run clip: .*nowhere.yaml cannot be read"),
        ({"measure": {"tasks": ["retreival"]}}, r"measure.tasks: there is no task retreival: .* retrieval\?"),
        ({"measure": {"probe": {"colour": "a.tar"}}}, r"measure.probe: there is no test 'colour'. did you mean"),
        ({"measure": {"robustness": {"colours": "x"}}}, "measure.robustness: there is no test 'x'"),
        ({"measure": {"robustness": {"colours": "colours"}}}, "measure.robustness: 'colours' loses nothing against it"),
        ({"measure": {"tasks": "robustness"}}, "measure.tasks: robustness is measured of the tests of measure.robust"),
        *(({"measure": {"tasks": each}}, f"measure.tasks: {each} is .* of measure.probe") for each in OF_PROBE),
        ({"measure": {"test": {"none": []}}}, "measure.test.none: .* at least 1"),
        ({"measure": {"probe": {"colours": []}}}, "measure.probe.colours: .* at least 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_run_and_field(
    colours: Path, tiny: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        load_comparison(write_comparison(tmp_path, colours, tiny, **fields), tmp_path)


def test_fields_are_merged_and_a_short_form_is_replaced() -> None:
    content: dict[str, Any] = {"a": {"b": 1, "c": 2}, "objective": "sigmoid", "list": [1, 2]}
    merge_fields(content, {"a.b": 3, "objective": {"kind": "rank"}, "list": [4], "new.deep": {"x": {}}})
    assert content == {"a": {"b": 3, "c": 2}, "objective": {"kind": "rank"}, "list": [4], "new": {"deep": {"x": {}}}}
    empty: dict[str, Any] = {"objective": {}}
    merge_fields(content, empty)
    merge_fields(content, {"objective": {"kind": "rank"}})
    assert empty == {"objective": {}}  # which is of all runs, and not of this one


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("compare*.yaml")), ids=lambda file: file.name)
def test_the_configurations_that_come_along_compare_every_objective(file: Path, tmp_path: Path) -> None:
    comparison = load_comparison(file, tmp_path)
    assert len(comparison.config.seeds) == 2
    kinds = {each.config.objective.kind for each in comparison.trainings}
    assert kinds == set(get_args(Objective.model_fields["kind"].annotation))
    assert all(not comparison.other_batches(run) for run in comparison.runs[:2])
