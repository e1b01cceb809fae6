"""What the settings of a run change that other tests do not hold: of one field each, with and without."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from model.config import ResNetConfig, ViTConfig
from model.network import build_network
from tests.training.conftest import TINY, export_tiny, further, picture, write_config, write_shard
from training.config import Augmentation, Columns, ConfigError, Data, Source, load_config
from training.data.augment import augment
from training.data.collate import Images
from training.data.dataset import TrainingSet
from training.data.variation import Block, draw_variation
from training.initial_model import build_initial_model
from training.loop.setup import setup
from training.loop.trainer import Trainer, train_step
from training.objectives.distillation import affinity_loss
from training.run import train_and_export

CPU = torch.device("cpu")


def trainer(folder: Path, run: Path, bundle: Path, **changes: Any) -> Trainer:
    return setup(load_config(write_config(run.parent, **further(bundle, **changes))), run, folder)


def first_step(trained: Trainer) -> dict[str, float]:
    return train_step(trained.unit, trained.loader.load(0))


def seen(trained: Trainer, step: int) -> torch.Tensor:
    """The pictures of a step, as the image tower is shown them."""
    [micro_batch] = trained.loader.load(step).micro_batches
    return trained.unit.augmenter.augment(micro_batch, step)


def data_of(folder: Path, members: dict[str, bytes], seed: int = 0, **settings: Any) -> TrainingSet:
    write_shard(folder / "train-0.tar", members)
    source = {name: settings.pop(name) for name in list(settings) if name in Source.model_fields}
    given = {"train": [Source(shards="train-*.tar", **source)], "holdout": 0, "store_pixels": 32, "max_long_text": 0}
    return TrainingSet(Data(**given | settings), folder, seed)


def labelled(labels: list[str], **told: Any) -> dict[str, bytes]:
    members = {}
    for number, label in enumerate(labels):
        members[f"{number:03d}.png"] = picture("red", number, (16, 16))
        members[f"{number:03d}.json"] = json.dumps({"label": label, **told}).encode()
    return members


def texts(data: TrainingSet, steps: int = 8) -> set[str]:
    return {text for step in range(steps) for text in data.batch(step, 32).texts}


def test_stages_are_the_sizes_of_crops_from_their_steps_on(colours: Path, tiny: Path, tmp_path: Path) -> None:
    stages = [{"start": 0, "pixels": 24}, {"start": 0.5, "pixels": 32}]
    trained = trainer(colours, tmp_path / "run", tiny, stages=stages)
    assert [seen(trained, step).shape for step in range(4)] == [(32, 3, 24, 24)] * 2 + [(32, 3, 32, 32)] * 2


def test_a_smaller_min_crop_shows_less_of_a_picture(tiny: Path, tmp_path: Path) -> None:
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[:] = np.linspace(0, 255, 64)[None, :, None]
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    members = {}
    for number in range(16):
        members[f"{number}.png"], members[f"{number}.txt"] = (tmp_path / "ramp.png").read_bytes(), b"ramp"
    write_shard(tmp_path / "train-0.tar", members)
    widths = {}
    for share in (0.05, 1.0):
        data = {"train": [{"shards": ["train-*.tar"]}], "holdout": 0, "store_pixels": 64, "max_long_text": 0}
        trained = trainer(tmp_path, tmp_path / f"run-{share}", tiny, min_crop=share, data=data)
        row = seen(trained, 0).mean(dim=(1, 2))  # [pictures, width]: the ramp, in other colours
        widths[share] = float((row.max(dim=1).values - row.min(dim=1).values).mean())
    assert widths[0.05] < 0.8 * widths[1.0]


def photo(aspect: tuple[int, int] = (64, 64), alpha: int = 255) -> Images:
    """Eight images of one ramp of colours."""
    ramp = torch.linspace(0, 255, 64)
    rgba = torch.stack([ramp.expand(64, 64), ramp.flip(0).expand(64, 64), torch.full((64, 64), 60.0)], -1)
    rgba = torch.cat([rgba, torch.full((64, 64, 1), float(alpha))], -1).to(torch.uint8)
    aspects = torch.full((8,), aspect[0] / aspect[1])
    return Images(rgba.expand(8, -1, -1, -1), aspects, torch.full((8,), alpha < 255), torch.ones(8, dtype=torch.bool))


PLAIN = Augmentation(
    crop_aspect=1, zoom_out=1, horizontal_flip=0, brightness=0, contrast=0, saturation=0, grayscale=0, blur=0, erasing=0
)


def varied(images: Images, min_crop: float = 1.0, **changes: float) -> torch.Tensor:
    """RGB [images, 3, 64, 64] with all augmentation left out but `changes`."""
    config = PLAIN.model_copy(update=changes)
    return augment(images.rgba, draw_variation(images.aspects, images.transparent, [Block(8, 0)], min_crop, config), 64)


def test_without_augmentation_an_image_is_shown_as_it_is() -> None:
    expected = photo().rgba[..., :3].permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(varied(photo()), expected, atol=1e-5, rtol=0)


def test_flipped_grey_blurred_and_erased_are_the_shares_that_are_asked_for() -> None:
    plain = varied(photo())
    torch.testing.assert_close(varied(photo(), horizontal_flip=1.0), plain.flip(3), atol=1e-5, rtol=0)
    grey = varied(photo(), grayscale=1.0)
    assert (grey.amax(1) - grey.amin(1)).max() < 1e-5 < (plain.amax(1) - plain.amin(1)).max()
    erased = (varied(photo(), erasing=1.0) - 0.5).abs().amax(1) < 1e-6
    assert erased.flatten(1).any(1).all()
    blurred = varied(photo(), blur=1.0)  # half of them by two, half by three, each by a chance of its own
    assert 0 < int((blurred - plain).abs().flatten(1).amax(1).gt(1e-4).sum()) <= 8


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_a_stronger_jitter_changes_colours_more(name: str) -> None:
    plain = varied(photo())
    weak, strong = (float((varied(photo(), **{name: share}) - plain).abs().mean()) for share in (0.1, 0.5))
    assert 0 < weak < 0.5 * strong


def test_crop_aspect_and_zoom_out_are_bounds_of_what_is_shown() -> None:
    wide = varied(photo(), min_crop=0.3, crop_aspect=3.0)
    steepness = wide.diff(dim=3).abs()[:, 0].mean((1, 2)) * 63  # of the ramp, that is the width that is shown
    square = varied(photo(), min_crop=0.3).diff(dim=3).abs()[:, 0].mean((1, 2)) * 63
    assert not torch.allclose(steepness, square, atol=0.02)
    drawing, near = varied(photo(alpha=200), zoom_out=3.0), varied(photo(alpha=200))
    assert not torch.allclose(drawing, near, atol=0.02)
    torch.testing.assert_close(varied(photo(), zoom_out=3.0), varied(photo()))  # an opaque image is never made smaller


def test_a_run_is_shown_what_its_augmentation_makes(colours: Path, tiny: Path, tmp_path: Path) -> None:
    shown = [
        seen(trainer(colours, tmp_path / str(share), tiny, augmentation={"erasing": share}), 0) for share in (0.0, 1.0)
    ]
    assert not torch.equal(*shown)


def test_templates_of_captions_are_a_list_or_a_set_by_name(tmp_path: Path) -> None:
    members = labelled(["cat"] * 8)
    assert texts(data_of(tmp_path, members, captions={"templates": ["one {} only"]})) == {"one cat only"}
    assert texts(data_of(tmp_path, members, captions={"templates": "photo"})) == {"a photo of a cat."}
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    drawings = {
        name: (tmp_path / "clear.png").read_bytes() if name.endswith("png") else b for name, b in members.items()
    }
    captions = {"templates": ["photo {}"], "transparent_templates": ["drawing {}"]}
    assert texts(data_of(tmp_path, drawings, captions=captions)) == {"drawing cat"}
    assert texts(data_of(tmp_path, members, captions=captions)) == {"photo cat"}


@pytest.mark.parametrize("kind", ["caption", "label", "synonym", "coarse", "tags"])
def test_weights_say_how_often_each_kind_of_text_is_sampled(tmp_path: Path, kind: str) -> None:
    (tmp_path / "words.json").write_text('{"cat": ["synonym"]}')
    members = labelled(["cat"] * 8, captions=["caption"], coarse="coarse", tags=["tags"])
    captions = {"templates": ["{}"], "weights": {kind: 1000.0}}
    data = data_of(tmp_path, members, captions=captions, synonyms="words.json")
    counts: Counter[str] = Counter()
    for step in range(8):
        batch = data.batch(step, 32)
        counts.update(batch.texts[column] for column in batch.drawn)
    assert counts[kind if kind != "label" else "cat"] > 0.9 * counts.total()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augmentation": {"blur": 1.5}}, "augmentation.blur: Input should be less than or equal to 1"),
        (
            {"augmentation": {"crop_aspect": 0.5}},
            "augmentation.crop_aspect: Input should be greater than or equal to 1",
        ),
        ({"augmentation": {"flip": 0.5}}, "augmentation.flip: there is no such field; there are crop_aspect"),
        ({"min_crop": 0}, "min_crop: Input should be greater than 0"),
        ({"data": {"captions": {"templates": "foto-10"}}}, "data.captions.templates: 'foto-10' is not one of photo-10"),
        ({"data": {"captions": {"templates": ["a cat"]}}}, "data.captions.templates: the template holds 0 times"),
        ({"data": {"test": {"x": []}}}, "data.test.x: Value should have at least 1 item"),
        ({"data": {"train": [{"shards": "x.tar", "weight": 1e308}]}}, "data.train.0.weight: Input should be less than"),
        ({"data": {"captions": {"templates": []}}}, "data.captions.templates: name a set of templates, or list"),
        (
            {"data": {"captions": {"weights": {"tags": 0}}}},
            "data.captions.weights.tags: Input should be greater than 0",
        ),
    ],
)
def test_wrong_augmentation_and_captions_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    data = {"train": [{"shards": ["train-*.tar"]}], **change.get("data", {})}
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(write_config(tmp_path, **{**change, "data": data}))


def test_pictures_are_kept_at_store_pixels(colours: Path, tiny: Path, tmp_path: Path) -> None:
    for side in (32, 48):
        data = TrainingSet(Data(train=[Source(shards="train-*.tar")], store_pixels=side), colours, 0)
        assert data.images(np.arange(3)).rgba.shape == (3, side, side, 4)


def test_the_holdout_is_the_share_that_is_asked_for(colours: Path) -> None:
    counts = {}
    for share in (0.0, 0.1, 0.5):
        data = TrainingSet(Data(train=[Source(shards="train-*.tar")], holdout=share, store_pixels=32), colours, 0)
        assert len(data) + len(data.holdout) == 160
        counts[share] = len(data.holdout)
    assert counts[0.0] == 0 < counts[0.1] < 40 < counts[0.5] < 120


def test_class_power_says_how_often_a_frequent_label_is_drawn(tmp_path: Path) -> None:
    shares = {}
    for power in (0.0, 0.5, 1.0):
        data = data_of(tmp_path, labelled(["many"] * 36 + ["few"] * 4), class_power=power)
        items = np.concatenate([data.batch(step, 256).items for step in range(8)])
        shares[power] = float((items < 36).mean())
    assert shares == pytest.approx({0.0: 0.5, 0.5: 0.75, 1.0: 0.9}, abs=0.03)


def test_another_seed_draws_other_samples_weights_and_patches(colours: Path, tmp_path: Path, tiny: Path) -> None:
    batches = {}
    for seed in (0, 0, 1):
        data = TrainingSet(Data(train=[Source(shards="train-*.tar")], store_pixels=32), colours, seed)
        batch = data.batch(0, 32)
        batches.setdefault(seed, []).append((batch.items.tolist(), batch.texts))
    assert batches[0][0] == batches[0][1] != batches[1][0]
    weights = {
        seed: build_initial_model(load_config(write_config(tmp_path, seed=seed))).network.text_projection.detach()
        for seed in (0, 1)
        for seed in (0, 1)
    }
    assert not torch.equal(weights[0], weights[1])
    cuts = [seen(trainer(colours, tmp_path / f"run-{seed}", tiny, seed=seed), 0) for seed in (0, 1)]
    assert not torch.equal(*cuts)


def test_synonyms_are_said_of_the_pictures_whose_label_they_belong_to(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text('{"motorbike": ["motorcycle"]}')
    members = labelled(["motorbike"] * 8)
    assert not any("motorcycle" in text for text in texts(data_of(tmp_path, members)))
    assert any("motorcycle" in text for text in texts(data_of(tmp_path, members, synonyms="words.json")))


def test_max_long_text_is_the_share_of_whole_descriptions(tmp_path: Path) -> None:
    members = labelled(["cat"] * 8, description="It sleeps. It is grey.")
    for share, low, high in ((0.0, 0, 0), (0.5, 0.35, 0.65), (1.0, 1, 1)):
        data = data_of(tmp_path, members, max_long_text=share)
        counts: Counter[bool] = Counter()
        for step in range(8):
            batch = data.batch(step, 32)
            counts.update("grey" in batch.texts[column] for column in batch.drawn)
        assert low <= counts[True] / counts.total() <= high, share


def test_more_pictures_in_a_batch(colours: Path, tiny: Path, tmp_path: Path) -> None:
    for size in (16, 24):
        assert len(seen(trainer(colours, tmp_path / str(size), tiny, batch_size=size), 0)) == size


def test_the_preset_is_what_a_run_begins_with(tmp_path: Path) -> None:
    networks = {}
    for name, size in (("sightword-small", 64), ("TinyCLIP-ViT-8M-16", 32)):
        file = write_config(tmp_path, model=name, stages=[{"start": 0, "pixels": size}])
        networks[name] = type(build_initial_model(load_config(file)).network.config.image)
    assert networks == {"sightword-small": ResNetConfig, "TinyCLIP-ViT-8M-16": ViTConfig}


def test_a_teachers_weight_and_scale_are_those_of_the_loss(colours: Path, tiny: Path, tmp_path: Path) -> None:
    def losses(name: str, **objective: Any) -> tuple[float, Trainer]:
        trained = trainer(colours, tmp_path / name, tiny, objective={"teacher": str(tiny), **objective})
        return first_step(trained)["loss"], trainer(colours, tmp_path / name, tiny, objective={"teacher": str(tiny)})

    once, untrained = losses("once")
    twice, _ = losses("twice", teacher_weight=2.0)
    flat, _ = losses("flat", teacher_scale=5.0)
    inputs = untrained.loader.load(0)
    encoder, distillation = untrained.unit.encoder, untrained.unit.distillation
    assert distillation is not None
    with torch.no_grad():
        student, theirs = encoder.forward(inputs), encoder.teacher_features(inputs, distillation.teacher)
        scale = untrained.network.logit_scale.exp()
        sharp, soft = (float(affinity_loss(student, scale, theirs, their_scale)) for their_scale in (50.0, 5.0))
    assert twice - once == pytest.approx(sharp, rel=1e-3)
    assert flat - once == pytest.approx(soft - sharp, rel=1e-3)
    assert abs(soft - sharp) > 1e-3


def test_what_is_exported_has_the_name_and_the_type_of_weights_that_are_asked_for(
    colours: Path, tiny: Path, tmp_path: Path
) -> None:
    """And its scores are those of the templates; a finished run is exported again with others."""
    types = {}
    for kind, template in (("float32", "a photo of a {}."), ("float16", "a {}, or another thing")):
        changes = further(tiny, name="other", weights_dtype=kind, templates=[template])
        bundle = train_and_export(load_config(write_config(tmp_path, **changes)), colours, tmp_path / "run")
        assert bundle is not None
        assert bundle.id == "other"
        types[kind] = load_file(bundle.path / "weights.safetensors")["text_projection"].dtype
        [result] = json.loads((tmp_path / "run" / "results.json").read_text())
        assert result["settings"]["templates"] == [template]
    assert types == {"float32": torch.float32, "float16": torch.float16}


def test_templates_are_what_the_hold_out_is_asked_in(colours: Path, tiny: Path, tmp_path: Path) -> None:
    asked = {}
    for name, template in (("plain", "{}"), ("long", "yellow yellow yellow {} blue")):
        trained = trainer(colours, tmp_path / name, tiny, templates=[template])
        asked[name] = trained.holdout.score(trained.network.eval())[0]
    assert asked["plain"] != asked["long"]


def test_evaluations_and_checkpoints_come_as_often_as_asked(colours: Path, tiny: Path, tmp_path: Path) -> None:
    changes = {"steps": 6, "evaluate_every": 2, "checkpoint_every": 3, "keep_checkpoints": 1}
    trainer(colours, tmp_path / "run", tiny, **changes).fit()
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "holdout" in record] == [2, 4, 6]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000006"]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_towers_compute_in_the_precision_that_is_asked_for(
    colours: Path, tiny: Path, tmp_path: Path, precision: str
) -> None:
    """By what comes out of the first matrix of the text tower, and by the rounding of the loss."""
    trained, kinds = trainer(colours, tmp_path / "run", tiny, precision=precision), set()
    trained.network.transformer.resblocks[0].mlp.register_forward_hook(lambda _, __, out: kinds.add(out.dtype))
    exact = trainer(colours, tmp_path / "exact", tiny, precision="fp32")
    loss, expected = first_step(trained)["loss"], first_step(exact)["loss"]
    assert kinds == {{"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]}
    assert (loss == expected) is (precision == "fp32")
    assert loss == pytest.approx(expected, rel=0.02)
    assert trained.state.precision == precision
    assert trained.unit.scaler.is_enabled() is (precision == "fp16")


def test_auto_is_a_precision_that_this_device_has_and_tf32_is_refused_without_a_gpu(
    colours: Path, tiny: Path, tmp_path: Path
) -> None:
    chosen = trainer(colours, tmp_path / "auto", tiny, precision="auto", device="cpu").state.precision
    assert chosen in ("fp32", "bf16")
    with pytest.raises(ConfigError, match="precision: tf32 is of CUDA devices"):
        trainer(colours, tmp_path / "tf32", tiny, precision="tf32", device="cpu")


def test_fsdp_is_refused_where_auto_is_float16(colours: Path, tiny: Path, tmp_path: Path) -> None:
    """As on a GPU without bfloat16: here by a run that was begun on one."""
    trainer(colours, tmp_path / "run", tiny, precision="auto", steps=2, evaluate_every=2).fit()
    where = tmp_path / "run" / "checkpoints" / "step-000002" / "progress.json"
    where.write_text(json.dumps(json.loads(where.read_text()) | {"precision": "fp16"}))
    with pytest.raises(ConfigError, match="precision: auto is fp16 here, which parallel: fsdp cannot scale"):
        trainer(colours, tmp_path / "run", tiny, precision="auto", parallel="fsdp", steps=2, evaluate_every=2)


def test_a_device_that_is_not_there_is_refused(colours: Path, tiny: Path, tmp_path: Path) -> None:
    assert trainer(colours, tmp_path / "cpu", tiny, device="cpu").processes.device == CPU
    if torch.cuda.is_available():
        assert trainer(colours, tmp_path / "cuda", tiny, device="cuda").processes.device.type == "cuda"
        return
    with pytest.raises(ConfigError, match="device: torch finds no CUDA device here; set device to auto or cpu"):
        trainer(colours, tmp_path / "cuda", tiny, device="cuda")
    assert not (tmp_path / "cuda").exists()
    assert trainer(colours, tmp_path / "auto", tiny).processes.device == CPU


def test_gradient_checkpointing_keeps_less_for_the_way_back(colours: Path, tiny: Path, tmp_path: Path) -> None:
    kept = {}
    for recompute in (False, True):
        trained = trainer(colours, tmp_path / str(recompute), tiny, gradient_checkpointing=recompute)
        inputs, sizes = trained.loader.load(0), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            trained.unit.encoder.forward(inputs)
        kept[recompute] = sum(sizes)
    assert kept[True] < 0.6 * kept[False]


def test_chunks_are_encoded_one_after_the_other(colours: Path, tiny: Path, tmp_path: Path) -> None:
    for count in (1, 4):
        trained, sizes = trainer(colours, tmp_path / str(count), tiny, accumulate=count), []
        trained.network.visual.register_forward_hook(lambda _, given, __, s=sizes: s.append(len(given[0])))
        first_step(trained)
        assert set(sizes) == {32 // count}
        assert len(sizes) == (1 if count == 1 else 2 * count)  # once without a graph, and again


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler, which `compile` needs on a CPU")
def test_compiled_towers_learn_the_same_by_other_code(colours: Path, tmp_path: Path) -> None:
    """Graphs are counted where torch makes them, of networks as small as can be: the compiler takes its time."""
    flat = {"layers": 1, "width": 16}
    image, text = TINY.image.model_copy(update=flat), TINY.text.model_copy(update=flat)
    torch.manual_seed(0)
    bundle = export_tiny(build_network(TINY.model_copy(update={"image": image, "text": text})), tmp_path / "flat")
    expected = first_step(trainer(colours, tmp_path / "plain", bundle))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    found = first_step(trainer(colours, tmp_path / "compiled", bundle, compile=True))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 2  # both towers
    torch._dynamo.reset()
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-3)


def test_compile_without_a_compiler_is_refused_before_the_first_step(
    colours: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="compile: on a CPU torch needs a C\\+\\+ compiler, and no-such-compiler"):
        trainer(colours, tmp_path / "run", tiny, compile=True, device="cpu")
    assert trainer(colours, tmp_path / "run", tiny, device="cpu").state.step == 0


def test_the_logit_scale_stays_below_100(colours: Path, tiny: Path, tmp_path: Path) -> None:
    trained = trainer(colours, tmp_path / "run", tiny)
    with torch.no_grad():
        trained.network.logit_scale.fill_(6.0)
    assert first_step(trained)["logit_scale"] == pytest.approx(100, rel=1e-4)


def test_the_column_that_is_named_holds_the_label(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(picture("red", number, (16, 16)))
    rows = "".join(f"{number}.png,cat,animal,\n" for number in range(8))
    (tmp_path / "t.csv").write_text("filepath,kind,class,caption\n" + rows, "utf-8")
    for columns, label in (({}, "animal"), ({"label": "kind"}, "cat")):
        source = Source(table="t.csv", columns=Columns(**columns))
        data = TrainingSet(Data(train=[source], holdout=0, store_pixels=32, max_long_text=0), tmp_path, 0)
        assert all(label in text for text in texts(data))
