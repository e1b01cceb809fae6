"""Every field of a training configuration: what it changes, and the test that fails where changing it changes nothing.

The fields are those of the models themselves, so that a new one without a row fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from tests.settings_table import Table, check_table
from training.config import TrainConfig

HERE = "tests/training"
CAPTIONS = f"{HERE}/test_caption_sources.py"
FILTERS = f"{HERE}/test_caption_filters.py"
SIMILAR = "test_captions_below_a_similarity_under_a_teacher_are_left_out_and_it_is_computed_once"
DELIMITED = f"{HERE}/test_delimited.py"
SETTINGS, OPTIMIZER = f"{HERE}/test_settings.py", f"{HERE}/test_optimizer_settings.py"
SOURCES, PICTURES, LEARNING = f"{HERE}/test_sources.py", f"{HERE}/test_pictures.py", f"{HERE}/test_learning.py"
OBJECTIVES, LOOP, SEVERAL = f"{HERE}/test_objectives.py", f"{HERE}/test_loop.py", f"{HERE}/test_distributed.py"
TEXT, FROZEN = f"{HERE}/test_text_section.py", f"{HERE}/test_frozen_text.py"
CATEGORIES, WHICH = f"{HERE}/categories/test_vocabulary.py", "test_settings_say_which_synsets_become_categories"

DATA: dict[str, tuple[str, str]] = {
    "data.train.shards": ("which samples there are", f"{SOURCES}::test_a_shard_is_scanned_without_its_pictures"),
    "data.train.table": ("which samples there are", f"{SOURCES}::test_tables_join_rows_of_the_same_picture"),
    "data.train.folder": ("which samples there are", f"{SOURCES}::test_folders_with_captions_beside_the_pictures"),
    "data.train.columns.picture": ("which column has paths", f"{SOURCES}::test_columns_can_be_named_and_are_asked_for"),
    "data.train.columns.captions": ("captions, in order", f"{SOURCES}::test_columns_can_be_named_and_are_asked_for"),
    "data.train.columns.label": ("labels", f"{SETTINGS}::test_the_column_that_is_named_holds_the_label"),
    "data.train.delimiter": ("what separates cells", f"{DELIMITED}::test_delimiter_and_quoting_are_settings"),
    "data.train.quoting": ("whether marks are part of a cell", f"{DELIMITED}::test_delimiter_and_quoting_are_settings"),
    "data.train.encoding": (
        "which characters texts have",
        f"{DELIMITED}::test_another_encoding_is_an_error_that_names_it_and_a_setting",
    ),
    "data.train.weight": (
        "share of the samples drawn, and of the held-out score",
        f"{SOURCES}::test_sources_of_every_form_train_together_and_hold_out_by_key",
    ),
    "data.train.resample": (
        "each picture once in a pass",
        f"{PICTURES}::test_without_resampling_every_picture_is_drawn_once_in_a_pass",
    ),
    "data.train.class_power": (
        "share of a frequent label",
        f"{SETTINGS}::test_class_power_says_how_often_a_frequent_label_is_drawn",
    ),
    "data.train.medium": (
        "which pairs are no negatives",
        f"{LEARNING}::test_what_is_said_in_one_medium_is_no_negative_in_another",
    ),
    "data.train.all_labels": (
        "which texts a batch has",
        f"{LEARNING}::test_a_phrase_is_one_text_of_a_batch_and_every_label_is_asked_for",
    ),
    "data.test": ("scores of the bundle", f"{HERE}/test_training.py::test_a_run_learns_evaluates_and_exports"),
    "data.holdout": ("how many are held out", f"{SETTINGS}::test_the_holdout_is_the_share_that_is_asked_for"),
    "data.exclude": ("samples left out", f"{LEARNING}::test_excluded_items_are_neither_learned_nor_held_out"),
    "data.synonyms": (
        "texts drawn",
        f"{SETTINGS}::test_synonyms_are_said_of_the_pictures_whose_label_they_belong_to",
    ),
    "data.pictures": (
        "decoded at the start, or drawn",
        f"{PICTURES}::test_broken_pictures_are_counted_and_take_no_part",
    ),
    "data.store_pixels": ("size of the pictures kept", f"{SETTINGS}::test_pictures_are_kept_at_store_pixels"),
    "data.max_pixels": ("samples skipped", f"{PICTURES}::test_broken_pictures_are_counted_and_take_no_part"),
    "data.max_long_text": ("share of long texts", f"{SETTINGS}::test_max_long_text_is_the_share_of_whole_descriptions"),
    "data.captions.templates": (
        "texts of labels",
        f"{SETTINGS}::test_templates_of_captions_are_a_list_or_a_set_by_name",
    ),
    "data.captions.transparent_templates": (
        "texts of labels of drawings",
        f"{SETTINGS}::test_templates_of_captions_are_a_list_or_a_set_by_name",
    ),
    "data.captions.weights.caption": (
        "share of its texts",
        f"{SETTINGS}::test_weights_say_how_often_each_kind_of_text_is_sampled",
    ),
    "data.captions.weights.label": (
        "share of its texts",
        f"{SETTINGS}::test_weights_say_how_often_each_kind_of_text_is_sampled",
    ),
    "data.captions.weights.synonym": (
        "share of its texts",
        f"{SETTINGS}::test_weights_say_how_often_each_kind_of_text_is_sampled",
    ),
    "data.captions.weights.coarse": (
        "share of its texts",
        f"{SETTINGS}::test_weights_say_how_often_each_kind_of_text_is_sampled",
    ),
    "data.captions.weights.tags": (
        "share of its texts",
        f"{SETTINGS}::test_weights_say_how_often_each_kind_of_text_is_sampled",
    ),
}

DATA |= {
    "data.captions.sources": (
        "which fields are captions",
        f"{CAPTIONS}::test_sources_name_fields_that_are_read_as_captions",
    ),
    "data.captions.mix": (
        "share of each source",
        f"{CAPTIONS}::test_a_mix_weighs_sources_and_leaves_the_share_of_one_that_is_missing_to_the_others",
    ),
    "data.captions.filters.min_words": ("captions", f"{FILTERS}::test_captions_of_few_or_many_words_are_left_out"),
    "data.captions.filters.max_words": ("captions", f"{FILTERS}::test_captions_of_few_or_many_words_are_left_out"),
    "data.captions.filters.max_pictures": (
        "captions",
        f"{FILTERS}::test_captions_of_many_pictures_are_left_out_in_whatever_case",
    ),
    "data.captions.filters.file_names": ("captions", f"{FILTERS}::test_names_of_files_and_addresses_are_left_out"),
    "data.captions.filters.languages": ("captions", f"{FILTERS}::test_captions_in_other_languages_are_left_out"),
    "data.captions.filters.min_similarity": ("captions", f"{FILTERS}::{SIMILAR}"),
    "data.captions.teacher": ("captions", f"{FILTERS}::{SIMILAR}"),
}
RANK = f"{HERE}/test_rank.py::test_weights_and_ramps_are_those_of_the_settings"

LEARNED: Table = {
    "objective.rank.cross_weight": ("the loss", RANK),
    "objective.rank.cross_ramp": ("the loss by step", RANK),
    "objective.rank.in_weight": ("the loss", RANK),
    "objective.rank.in_ramp": ("the loss by step", RANK),
    "objective.kind": ("the loss", f"{OBJECTIVES}::test_the_sigmoid_loss_learns_a_bias_that_the_bundle_carries"),
    **{
        f"objective.llip.{name}": (
            "the network and its loss",
            f"{HERE}/test_llip_runs.py::test_a_preset_gets_the_tokens_of_the_configuration",
        )
        for name in ("tokens", "heads", "temperature")
    },
    "objective.categories.vocabulary": ("the categories", f"{CATEGORIES}::{WHICH}"),
    "objective.categories.min_count": ("the categories", f"{CATEGORIES}::{WHICH}"),
    "objective.categories.max_categories": ("the categories", f"{CATEGORIES}::{WHICH}"),
    "objective.categories.wordnet": ("where WordNet is, or a refusal", f"{CATEGORIES}::{WHICH}"),
    "objective.teacher": ("the loss", f"{OBJECTIVES}::test_a_student_comes_closer_to_its_teacher"),
    "objective.teacher_weight": (
        "the loss",
        f"{SETTINGS}::test_a_teachers_weight_and_scale_are_those_of_the_loss",
    ),
    "objective.teacher_scale": (
        "the loss",
        f"{SETTINGS}::test_a_teachers_weight_and_scale_are_those_of_the_loss",
    ),
    "optimizer.learning_rate": ("size of a step", f"{OPTIMIZER}::test_the_first_step_is_adamws"),
    "optimizer.betas": ("both moments", f"{OPTIMIZER}::test_moments_are_gathered_by_the_betas"),
    "optimizer.eps": ("steps of small gradients", f"{OPTIMIZER}::test_the_first_step_is_adamws"),
    "optimizer.weight_decay": ("matrices shrink", f"{OPTIMIZER}::test_the_first_step_is_adamws"),
    "optimizer.warmup_steps": (
        "rates of the first steps",
        f"{OPTIMIZER}::test_the_rate_follows_the_schedule_of_the_configured_run",
    ),
    "optimizer.clip_norm": (
        "moments and weights",
        f"{HERE}/test_clipping.py::test_a_step_learns_from_clipped_gradients",
    ),
    "optimizer.layer_decay": (
        "steps of deep layers",
        f"{OPTIMIZER}::test_gains_and_scalars_do_not_decay_and_deeper_layers_move_less",
    ),
    "lock.image": ("weights that stay", f"{OBJECTIVES}::test_a_locked_tower_keeps_its_weights_and_its_statistics"),
    "lock.text": ("when weights begin to move", f"{OBJECTIVES}::test_a_tower_is_unlocked_on_the_way"),
    "ema_decay": (
        "the average that is evaluated and exported",
        f"{OPTIMIZER}::test_the_average_follows_by_its_decay_and_faster_at_first",
    ),
    "min_crop": ("what is seen of a picture", f"{SETTINGS}::test_a_smaller_min_crop_shows_less_of_a_picture"),
    "augmentation.crop_aspect": (
        "what is seen of a picture",
        f"{SETTINGS}::test_crop_aspect_and_zoom_out_are_bounds_of_what_is_shown",
    ),
    "augmentation.zoom_out": (
        "what is seen of a picture",
        f"{SETTINGS}::test_crop_aspect_and_zoom_out_are_bounds_of_what_is_shown",
    ),
    "augmentation.horizontal_flip": (
        "what is seen of a picture",
        f"{SETTINGS}::test_flipped_grey_blurred_and_erased_are_the_shares_that_are_asked_for",
    ),
    "augmentation.grayscale": (
        "what is seen of a picture",
        f"{SETTINGS}::test_flipped_grey_blurred_and_erased_are_the_shares_that_are_asked_for",
    ),
    "augmentation.blur": (
        "what is seen of a picture",
        f"{SETTINGS}::test_flipped_grey_blurred_and_erased_are_the_shares_that_are_asked_for",
    ),
    "augmentation.erasing": (
        "what is seen of a picture",
        f"{SETTINGS}::test_flipped_grey_blurred_and_erased_are_the_shares_that_are_asked_for",
    ),
    "augmentation.brightness": (
        "colours",
        f"{SETTINGS}::test_a_stronger_jitter_changes_colours_more",
    ),
    "augmentation.contrast": (
        "colours",
        f"{SETTINGS}::test_a_stronger_jitter_changes_colours_more",
    ),
    "augmentation.saturation": (
        "colours",
        f"{SETTINGS}::test_a_stronger_jitter_changes_colours_more",
    ),
    "patch_dropout": ("patches looked at", f"{LOOP}::test_patches_are_dropped_by_step_and_picture"),
    "stages.start": (
        "size of crops by step",
        f"{SETTINGS}::test_stages_are_the_sizes_of_crops_from_their_steps_on",
    ),
    "stages.pixels": (
        "size of crops by step",
        f"{SETTINGS}::test_stages_are_the_sizes_of_crops_from_their_steps_on",
    ),
}

RUN: Table = {
    "name": (
        "id of the bundle",
        f"{SETTINGS}::test_what_is_exported_has_the_name_and_the_type_of_weights_that_are_asked_for",
    ),
    "model": ("the network", f"{SETTINGS}::test_the_preset_is_what_a_run_begins_with"),
    "start": (
        "the weights a run begins with",
        f"{OBJECTIVES}::test_the_bundled_checkpoint_is_trained_further_and_keeps_its_pixels_and_words",
    ),
    "text.preset": ("the text tower", f"{TEXT}::test_a_fresh_text_tower_learns_over_the_image_tower_of_a_start"),
    "text.frozen": ("the text tower", f"{FROZEN}::test_the_language_model_keeps_its_bits_and_all_else_learns"),
    "text.alignment_layers": ("blocks that learn", f"{FROZEN}::test_alignment_layers_are_as_many_as_asked_for"),
    "image_size": ("position embeddings", f"{OBJECTIVES}::test_a_bundle_is_trained_further_for_larger_pictures"),
    "steps": ("length of the run", f"{OPTIMIZER}::test_the_rate_follows_the_schedule_of_the_configured_run"),
    "batch_size": ("pictures of a step", f"{SETTINGS}::test_more_pictures_in_a_batch"),
    "device": ("where it computes, or a refusal", f"{SETTINGS}::test_a_device_that_is_not_there_is_refused"),
    "precision": (
        "type of the activations",
        f"{SETTINGS}::test_towers_compute_in_the_precision_that_is_asked_for",
    ),
    "accumulate": ("passes of a step", f"{SETTINGS}::test_chunks_are_encoded_one_after_the_other"),
    "gradient_checkpointing": (
        "activations kept",
        f"{SETTINGS}::test_gradient_checkpointing_keeps_less_for_the_way_back",
    ),
    "parallel": ("what each process holds", f"{SEVERAL}::test_fsdp_holds_a_part_of_the_weights_and_ddp_all"),
    "compile": ("graphs compiled", f"{SETTINGS}::test_compiled_towers_learn_the_same_by_other_code"),
    "seed": (
        "samples, first weights and crops",
        f"{SETTINGS}::test_another_seed_draws_other_samples_weights_and_patches",
    ),
    "evaluate_every": (
        "steps with a held-out score",
        f"{SETTINGS}::test_evaluations_and_checkpoints_come_as_often_as_asked",
    ),
    "checkpoint_every": (
        "steps with a checkpoint",
        f"{HERE}/test_checkpoints.py::test_the_last_checkpoints_are_kept",
    ),
    "keep_checkpoints": (
        "checkpoints that are left",
        f"{HERE}/test_checkpoints.py::test_the_last_checkpoints_are_kept",
    ),
    "templates": ("held-out score", f"{SETTINGS}::test_templates_are_what_the_hold_out_is_asked_in"),
    "weights_dtype": (
        "type of the weights in the bundle",
        f"{SETTINGS}::test_what_is_exported_has_the_name_and_the_type_of_weights_that_are_asked_for",
    ),
}


def fields_of(model: type[BaseModel], within: str = "") -> Iterator[str]:
    """Names as they are written for `--set`, those of a list's models as of one."""
    for name, field in model.model_fields.items():
        inner = next(_models(field.annotation), None)
        if inner is None:
            yield within + name
        else:
            yield from fields_of(inner, f"{within}{name}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def test_every_field_of_a_configuration_has_a_test() -> None:
    fields = list(fields_of(TrainConfig))
    assert {"data.train.columns.label", "optimizer.clip_norm", "stages.pixels", "seed"} <= set(fields)
    check_table({**DATA, **LEARNED, **RUN}, fields)
