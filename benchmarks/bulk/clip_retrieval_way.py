"""python -m benchmarks.bulk.clip_retrieval_way BUNDLE SOURCE KIND OUTPUT: one run as clip-retrieval would do it.

Its reader, mapper and writer in a few lines, for its package (2.45) wants torchvision, numpy below 2 and pyarrow
below 16. The same: a DataLoader of PyTorch with processes that open each file with Pillow, resize, crop and normalise
it to float32; the network in PyTorch, under no_grad; float16; one .npy and a Parquet file of the names at the end;
batches one after the other. Different: processes are as many as cores, and a batch is 64 (its defaults are 4 and 256,
more than a few hundred pictures on two cores should wait for). Prints what it took as JSON, without opening the model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.bulk.contenders import measured, pixels
from model.bundle import Bundle
from model.checkpoints.networks import read_bundle, to_network
from model.runtime.processor import usable_cores

BATCH = 64


class Items(Dataset[Any]):
    """Names with tensors of one item each."""

    def __init__(self, bundle: Bundle, source: Path, kind: str) -> None:
        self._bundle, self._kind = bundle, kind
        self._items: list[Any] = sorted(source.iterdir()) if kind == "image" else source.read_text("utf-8").split("\n")
        self._tokenizer = bundle.tokenizer()

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[str, torch.Tensor]:
        item = self._items[index]
        if self._kind == "text":
            row = self._tokenizer.pad(self._tokenizer.encode([item]))[0]
            full = np.zeros(self._bundle.context_length, np.int64)  # as CLIP's tokenizer pads
            full[: len(row)] = row
            return item, torch.from_numpy(full)
        preprocessing = self._bundle.preprocessing
        scaled = pixels(item.read_bytes(), self._bundle.image_size).astype(np.float32) / 255
        normalised = (scaled - np.float32(preprocessing.mean)) / np.float32(preprocessing.std)
        return str(item), torch.from_numpy(np.ascontiguousarray(normalised.transpose(2, 0, 1)))


def main() -> None:
    """One run."""
    bundle, source, kind, output = Bundle.load(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    network = to_network(read_bundle(bundle)).eval()
    encode = network.encode_image if kind == "image" else network.encode_text
    items = Items(bundle, source, kind)

    def run() -> None:
        names, rows = list[str](), list[Any]()
        with torch.no_grad():
            for batch_names, batch in DataLoader(items, BATCH, num_workers=usable_cores(), prefetch_factor=2):
                vectors = encode(batch)
                vectors = vectors / vectors.norm(dim=-1, keepdim=True)
                rows.append(vectors.to(torch.float16).numpy())
                names += batch_names
        np.save(output.with_suffix(".npy"), np.concatenate(rows))
        pq.write_table(pa.table({"image_path": names}), output.with_suffix(".parquet"))

    reading = measured(len(items), run)
    print(json.dumps([reading.items, reading.seconds, reading.core_s]))


if __name__ == "__main__":
    main()
