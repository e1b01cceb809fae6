"""Whether texts may be trimmed: measured, since no library says it of its towers."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from model import smoke_inputs
from model.network import AnyNetwork, LibraryNetwork
from model.tokenizers.clip import TextTokenizer, pad_rows

TRIMMING_TOLERANCE = 1e-5  # of any component of a vector: what the order of sums makes of the same vector is below
_LENGTHS = 4  # of texts that are compared
_MANY_TOKENS = 512  # a longer context is compared at that length: the time is quadratic in it


@torch.no_grad()
def padding_matters(network: AnyNetwork, tokenizer: TextTokenizer) -> bool:
    """Whether rows of ids that end with a text give other vectors than rows that are padded to the context length."""
    text = network.config.text
    rows = smoke_inputs.token_rows(tokenizer)
    picked = [rows[i * (len(rows) - 1) // (_LENGTHS - 1)] for i in range(_LENGTHS)]
    length = min(text.context_length, max(_MANY_TOKENS, max(map(len, picked))))
    padded = pad_rows(picked, length, text.pad_id)
    whole = F.normalize(network.encode_text(torch.from_numpy(padded)), dim=-1)
    try:
        trimmed = [network.encode_text(torch.tensor([row])) for row in picked]
    except Exception:  # a tower of one length fails in its own way
        return True
    return not bool((F.normalize(torch.cat(trimmed), dim=-1) - whole).abs().max() <= TRIMMING_TOLERANCE)


def measure_length(network: LibraryNetwork, tokenizer: TextTokenizer) -> None:
    """Have the network's configuration say whether its texts must be padded to the context length."""
    text = network.config.text.model_copy(update={"fixed_length": padding_matters(network, tokenizer)})
    network.config = network.config.model_copy(update={"text": text})
