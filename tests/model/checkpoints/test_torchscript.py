"""TorchScript archives as torch writes them, read without torch.jit."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model.checkpoints.checkpoint import Options
from model.checkpoints.importer import import_checkpoint, read_checkpoint
from model.checkpoints.weights import read_content, read_file, read_weights
from tests.model.checkpoints.archives import half_where_openai_does, write_archive
from tests.model.checkpoints.openclip.models import Ours, build, expect_same, vary

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

# OpenAI's heads are 64 wide; shapes do not tell of others.
VIT = vary({"width": 128, "head_width": 64}, {"width": 128}, quick_gelu=True)
RESNET = vary({}, {"width": 128}, quick_gelu=True) | {
    "vision_cfg": {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8, "head_width": 64, "patch_size": None}
}


class Tangle(nn.Module):
    """Weights in all the ways in which two names can lead to the same bytes, and in types beside the usual."""

    def __init__(self, activation: str = "none") -> None:
        super().__init__()
        self.activation = activation
        self.linear = nn.Linear(4, 4)
        self.stages = nn.Sequential(nn.Linear(4, 4).half(), nn.BatchNorm1d(4))
        self.again = self.stages[1]
        self.tied = self.linear.weight
        self.tail = nn.Parameter(self.linear.weight.data.flatten()[5:])
        self.turned = nn.Parameter(self.linear.weight.data.T)
        self.rough = nn.Parameter(torch.randn(3).bfloat16())
        self.register_buffer("exact", torch.randn(2, dtype=torch.float64))
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("small", torch.tensor(-7, dtype=torch.int16))
        self.register_buffer("nothing", torch.empty(0, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.again(self.linear(x) + self.tied.sum() + self.tail.sum() + self.turned.sum())
        x = x + self.rough.sum() + self.exact.sum() + self.flags.sum() + self.small + self.nothing.sum()
        x = x + self.stages[0].weight.float().sum()
        if self.activation == "gelu":
            return F.gelu(x)
        if self.activation == "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        return x * torch.sigmoid(1.702 * x) if self.activation == "quick_gelu" else x


def saved(module: nn.Module, file: Path, *, scripted: bool) -> Path:
    example = torch.randn(2, 4)
    made = torch.jit.script(module.eval()) if scripted else torch.jit.trace(module.eval(), example)
    torch.jit.save(made, file)
    return file


@pytest.mark.parametrize("scripted", [False, True], ids=["traced", "scripted"])
def test_every_tensor_is_the_one_that_torch_reads(tmp_path: Path, scripted: bool) -> None:
    file = saved(Tangle(), tmp_path / "tangle.pt", scripted=scripted)
    theirs = torch.jit.load(file).state_dict()
    ours = read_weights(file)
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert ours[name].shape == tensor.shape, name
        assert torch.equal(ours[name], tensor), name
    assert {"tied", "tail", "turned", "again.running_mean", "nothing", "stages.0.weight"} <= set(ours)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "quick_gelu", "none"])
@pytest.mark.parametrize("scripted", [False, True], ids=["traced", "scripted"])
def test_the_code_tells_the_activation(tmp_path: Path, activation: str, scripted: bool) -> None:
    archive = read_content(saved(Tangle(activation), tmp_path / "tangle.pt", scripted=scripted))
    assert archive is not None
    if scripted:  # all branches are in the code, so it does not tell
        assert archive.activation is None
    else:
        assert archive.activation == (None if activation == "none" else activation)


@pytest.mark.parametrize("scripted", [False, True], ids=["traced", "scripted"])
@pytest.mark.parametrize("cfg", [VIT, RESNET, VIT | {"quick_gelu": False}], ids=["vit", "resnet", "vit-gelu"])
def test_an_archive_gives_the_vectors_of_its_model(
    open_clip: Any, tmp_path: Path, cfg: dict[str, Any], scripted: bool
) -> None:
    model = build(open_clip, cfg)
    state = half_where_openai_does(open_clip, model)
    assert {tensor.dtype for tensor in state.values()} >= {torch.float16, torch.float32}
    file = write_archive(model, state, tmp_path / "archive.pt", scripted=scripted)
    checkpoint = read_checkpoint(file, Options())
    assert {name: tensor.dtype for name, tensor in checkpoint.state.items()} == {n: t.dtype for n, t in state.items()}
    assert all(torch.equal(tensor, state[name]) for name, tensor in checkpoint.state.items())
    # The convolutional tower computes no activation of the kind that the text tower has.
    assert checkpoint.config.activation == ("quick_gelu" if cfg["quick_gelu"] else "gelu")
    assert checkpoint.source["activation_from"] == "the code in the archive"
    assert not any("activation" in warning for warning in checkpoint.warnings)
    model.load_state_dict(state)  # in full precision, of values that half precision has
    expect_same(Ours.read(checkpoint), model, open_clip.SimpleTokenizer(context_length=77))


def test_an_archive_is_served_as_its_model_computes(open_clip: Any, tmp_path: Path) -> None:
    model = build(open_clip, VIT)
    state = half_where_openai_does(open_clip, model)
    file = write_archive(model, state, tmp_path / "archive.pt", scripted=False)
    model.load_state_dict(state)
    bundle, _ = import_checkpoint(file, tmp_path / "bundle", Options())
    expect_same(Ours.served(bundle), model, open_clip.SimpleTokenizer(context_length=77))
    assert bundle.manifest.source["format"] == "TorchScript archive"


def test_an_archive_written_on_a_gpu_is_read(tmp_path: Path) -> None:
    file = saved(nn.Linear(4, 4), tmp_path / "linear.pt", scripted=False)
    forged = tmp_path / "gpu.pt"
    with zipfile.ZipFile(file) as good, zipfile.ZipFile(forged, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            bad.writestr(name, content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    assert b"cuda:0" in forged.read_bytes()
    expected = torch.jit.load(file).state_dict()
    ours = read_file(forged)
    assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items())


def test_tensors_are_left_in_the_file_until_they_are_used(tmp_path: Path) -> None:
    file = saved(Tangle(), tmp_path / "tangle.pt", scripted=False)
    state = read_weights(file)
    before = file.read_bytes()
    state["linear.weight"].zero_()
    assert file.read_bytes() == before, "a tensor that is written to changes the file"


def test_files_of_torch_save_are_no_archives(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "plain.pt")
    assert isinstance(read_content(tmp_path / "plain.pt"), dict)
    assert torch.equal(read_file(tmp_path / "plain.pt")["a"], torch.ones(2))
