"""Every option of `python -m model`, and the test in which giving it changes the outcome; what typos are offered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from model.__main__ import app
from model.bundle import Bundle, bundled
from model.config import ModelConfig, TextConfig, ViTConfig
from tests.model.conftest import random_network
from tests.settings_table import check_table

HERE = "tests/model/test_command_options.py"
PULL = "tests/model/hub/test_pull.py"
INSPECT = "tests/model/test_bundle.py::test_the_command_line_inspects_and_verifies"
SERVED = "tests/model/checkpoints/library/test_onnx_folders.py"
TABLE = {
    "pull name": ("what is fetched", f"{PULL}::test_a_model_of_the_hub_becomes_a_bundle"),
    "pull --to": ("the folder", f"{PULL}::test_a_damaged_bundle_in_a_folder_of_its_own_is_pulled_again"),
    "pull --from": ("nothing is fetched", f"{PULL}::test_files_from_a_folder_leave_an_earlier_download"),
    "pull --force": ("it is pulled again", f"{PULL}::test_a_damaged_bundle_in_a_folder_of_its_own_is_pulled_again"),
    "pull --keep-download": ("the files stay", f"{PULL}::test_a_download_is_kept_where_that_is_said"),
    "import source": ("what is read", "tests/model/checkpoints/test_importer.py::test_the_command_says_what_is_wrong"),
    "import --to": ("the folder", f"{HERE}::test_an_import_is_as_it_is_told"),
    "import --name": ("the id", f"{HERE}::test_an_import_is_as_it_is_told"),
    "import --activation": ("what is computed", f"{HERE}::test_an_import_is_as_it_is_told"),
    "import --architecture": ("heads", f"{HERE}::test_an_import_is_as_it_is_told"),
    "import --tokenizer": (
        "whose tokenizer it is",
        "tests/model/checkpoints/library/test_open_clip_files.py::test_a_tokenizer_of_its_own_is_named",
    ),
    "import --image-size": ("position embeddings", f"{HERE}::test_an_import_is_as_it_is_told"),
    "import --exact-pixels": ("preprocessing", f"{HERE}::test_an_import_is_as_it_is_told"),
    "import --matryoshka-dimensions": (
        "what /info says of lengths",
        "tests/model/checkpoints/test_matryoshka.py::test_an_import_writes_them_into_the_manifest_and_no_digest_changes",
    ),
    "import --logit-scale": ("the scale", f"{SERVED}::test_a_folder_of_immich_is_served"),
    "import --logit-bias": ("the bias", f"{SERVED}::test_a_folder_of_immich_is_served"),
    "export bundle": ("what is written", f"{HERE}::test_an_export_is_as_it_is_told"),
    "export --format": ("for whom", f"{HERE}::test_an_export_is_as_it_is_told"),
    "export --to": ("the folder", f"{HERE}::test_an_export_is_as_it_is_told"),
    "optimize bundle": ("what it is made from", f"{HERE}::test_a_variant_is_as_it_is_told"),
    "optimize --precision": ("arithmetic", f"{HERE}::test_a_variant_is_as_it_is_told"),
    "optimize --fused": ("operators", "tests/model/variants/test_fusion.py::"
                         "test_siglip_is_fused_and_quantised_with_texts_padded_as_its_tower_wants"),
    "optimize --to": ("the folder", f"{HERE}::test_a_variant_is_as_it_is_told"),
    "optimize --pictures": ("what it is measured on", f"{HERE}::test_a_variant_is_as_it_is_told"),
    "optimize --name": ("the id", f"{HERE}::test_a_variant_is_as_it_is_told"),
    "inspect bundle": ("which one", INSPECT),
    "inspect --json": ("the manifest", INSPECT),
    "verify bundle": ("which one", INSPECT),
}  # fmt: skip
ONE_HEAD = ModelConfig(
    name="one-head",
    embed_dim=32,
    activation="quick_gelu",
    image=ViTConfig(image_size=32, patch_size=16, width=64, layers=1, heads=1),
    text=TextConfig(width=64, heads=1, layers=1, vocab_size=49408, context_length=77),
)
OPEN_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}


def test_every_option_has_a_test_in_which_it_changes_something() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    options = (
        f"{command} {max(parameter.opts, key=len).rstrip('_')}"
        for command, each in commands.items()
        for parameter in each.params
    )
    check_table(TABLE, (option for option in options if not option.endswith(" --help")))


def run(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == code, done.output
    return done.output


def unboxed(output: str) -> str:
    """What a box on a terminal says, on one line."""
    return " ".join(output.replace("│", " ").split())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "weights.pt"
    torch.save(random_network(ONE_HEAD).state_dict(), file)
    return file


@pytest.fixture(scope="module")
def imported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    to = tmp_path_factory.mktemp("imported") / "plain"
    run("import", weights, "--to", to)
    return Bundle.load(to)


def test_an_import_is_as_it_is_told(weights: Path, imported: Bundle, tmp_path: Path) -> None:
    (tmp_path / "two-heads.json").write_text(json.dumps(OPEN_CLIP))
    told = "--name", "mine", "--activation", "gelu", "--image-size", 64, "--exact-pixels"
    run("import", weights, "--to", tmp_path / "told", *told, "--architecture", tmp_path / "two-heads.json")
    plain, other = imported.manifest, Bundle.load(tmp_path / "told").manifest
    assert (plain.id, other.id) == ("weights", "mine")
    assert (plain.config.activation, other.config.activation) == ("quick_gelu", "gelu")
    assert (plain.config.text.heads, other.config.text.heads) == (1, 2)
    assert (plain.preprocessing.size, other.preprocessing.size) == (32, 64)
    exact = other.preprocessing.model_copy(update={"size": 32})
    assert exact != plain.preprocessing


def test_an_export_is_as_it_is_told(imported: Bundle, tmp_path: Path) -> None:
    bundle = shutil.copytree(imported.path, tmp_path / "bundle")
    run("export", bundle, "--format", "openclip")
    assert (tmp_path / "bundle-openclip" / "open_clip_config.json").is_file()
    run("export", bundle, "--format", "huggingface", "--to", tmp_path / "theirs")
    assert (tmp_path / "theirs" / "config.json").is_file()
    assert not (tmp_path / "bundle-huggingface").exists()


def test_a_variant_is_as_it_is_told(imported: Bundle, tmp_path: Path) -> None:
    bundle = shutil.copytree(imported.path, tmp_path / "bundle")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(12):
        Image.effect_noise((64, 64), 20 + number).save(pictures / f"{number}.png")
    run("optimize", bundle, "--precision", "fp16")
    beside = Bundle.load(tmp_path / "bundle-fp16")
    run("optimize", bundle, "--precision", "bf16", "--to", tmp_path / "to", "--name", "mine", "--pictures", pictures)
    told = Bundle.load(tmp_path / "to")
    assert (beside.precision, beside.id, told.precision, told.id) == ("fp16", "weights-fp16", "bf16", "mine")
    assert beside.manifest.variant is not None
    assert told.manifest.variant is not None
    assert beside.manifest.variant.rows() != told.manifest.variant.rows()
    assert "only with" in run("optimize", bundle, code=1) or "fused" in run("optimize", bundle, code=1)


def test_the_nearest_right_name_is_offered(tmp_path: Path) -> None:
    bundle = shutil.copytree(bundled(), tmp_path / "bundle")
    wrong = tmp_path / "bunlde"
    for command in ("inspect", "verify", "optimize"):
        assert f"did you mean {bundle}?" in run(command, wrong, code=1)
    assert f"did you mean {bundle}?" in run("export", wrong, "--format", "openclip", code=1)
    (tmp_path / "weights.pt").touch()
    assert "weights.pt?" in run("import", tmp_path / "wieghts.pt", "--to", tmp_path / "to", code=1)
    assert "did you mean int8?" in unboxed(run("optimize", bundle, "--precision", "int9", code=2))
    assert "did you mean fp16?" in unboxed(run("optimize", bundle, "--precision", "float16", code=2))
    assert "did you mean huggingface?" in unboxed(run("export", bundle, "--format", "hf", code=2))
    activation = run("import", "x", "--to", tmp_path / "to", "--activation", "quickgelu", code=2)
    assert "quick_gelu" in activation
    architecture = "--architecture", "ViT-B23"
    assert "ViT-B-" in run("import", tmp_path / "weights.pt", "--to", tmp_path / "to", *architecture, code=1)
    assert "did you mean ViT-B-32" in run("pull", "ViT-B-23", code=1)
    assert "'optimize'" in run("optimise", code=2)
    pictures = run("optimize", bundle, "--precision", "int8", "--pictures", tmp_path / "bundel", code=1)
    assert f"did you mean {bundle}?" in pictures
