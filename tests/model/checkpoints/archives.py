"""Weights of random networks: read, rounded as OpenAI rounds them, and in TorchScript archives written by torch."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoints.checkpoint import Checkpoint, Options
from model.checkpoints.openai import read_state
from model.config import ModelConfig
from tests.model.conftest import random_network


def checkpoint_of(config: ModelConfig, state: dict[str, Tensor] | None = None) -> Checkpoint:
    """What is read of a network of this configuration, with random weights or those given."""
    state = random_network(config).state_dict() if state is None else state
    return read_state(dict(state), Options(architecture=config), "model")


def half_where_openai_does(open_clip: Any, model: nn.Module) -> dict[str, Tensor]:
    """The weights with convolutions, linear layers and projections in half precision; the rest stays in full."""
    rounded = copy.deepcopy(model)
    open_clip.model.convert_weights_to_fp16(rounded)
    return rounded.state_dict()


def write_archive(model: nn.Module, state: dict[str, Tensor], file: Path, *, scripted: bool) -> Path:
    """Save a model of open_clip with the tensors of `state` and the numbers that OpenAI's archives hold beside them."""
    model = copy.deepcopy(model)
    size, length = model.visual.image_size, model.context_length
    size = size[0] if isinstance(size, tuple) else size
    for name, value in {"input_resolution": size, "context_length": length, "vocab_size": model.vocab_size}.items():
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    pixels, ids = torch.zeros(1, 3, size, size), torch.zeros(1, length, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if scripted:
            module = torch.jit.script(model)
        else:
            calls = {"forward": (pixels, ids), "encode_image": (pixels,), "encode_text": (ids,)}
            module = torch.jit.trace_module(model, calls, check_trace=False)
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if name in state:
                tensor.data = state[name].clone()
        torch.jit.save(module, file)
    return file
