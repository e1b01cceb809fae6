"""Time and memory of Llip's loss beside SigLIP's, forward and back: `python -m benchmarks.llip_loss`

Of vectors at random, each loss in a process of its own, on one thread. Of a large batch the rows of one process among
several are measured, `--rows` of them against all texts, and the time is given for all rows. Seconds are CPU time,
which a busy host disturbs less; memory is what the process has at most beyond what it began with, vectors included.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from model.config import MixtureConfig, load_preset
from model.network import build_network
from training.loop.processes import keep_freed_memory
from training.objectives.llip import llip_loss
from training.objectives.objective import LocalRows
from training.objectives.sigmoid import sigmoid_loss

PRESET = "sightword-small-vit"


def measure(kind: str, samples: int, rows: int) -> str:
    """A row of the table: both passes of a batch of so many samples."""
    config = load_preset(PRESET).model_copy(update={"mixture": MixtureConfig()})
    network, tokens = build_network(config), MixtureConfig().tokens
    network.logit_bias = torch.nn.Parameter(torch.tensor(-10.0))
    positive, part = torch.eye(samples) > 0, LocalRows(slice(0, rows), slice(0, samples))
    masks = positive, torch.zeros_like(positive)
    began, memory = time.process_time(), _peak_mib()
    text = _unit(samples, config.embed_dim)
    if kind == "llip":
        loss = llip_loss(_unit(samples, tokens, config.embed_dim), text, network, *masks, part)
    else:
        scalars = network.logit_scale.exp(), network.logit_bias
        loss = sigmoid_loss(_unit(samples, config.embed_dim), text, *scalars, *masks, part)
    torch.autograd.backward(loss)
    seconds = (time.process_time() - began) * samples / rows
    return f"| {kind} | {samples:,} | {seconds:.2f} | {_peak_mib() - memory:.0f} |"


def _unit(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape), dim=-1).requires_grad_()


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[512, 4096], help="of a batch")
    parser.add_argument("--rows", type=int, default=512, help="of one process, at most")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        torch.set_num_threads(1)
        keep_freed_memory()  # as a run does
        [samples] = arguments.samples
        print(measure(arguments.one, samples, min(samples, arguments.rows)))
        return
    print("| loss | samples | CPU seconds of both passes | MiB |\n| --- | --- | --- | --- |")
    for samples in arguments.samples:
        for kind in ("sigmoid", "llip"):
            given = ["--one", kind, "--samples", str(samples), "--rows", str(arguments.rows)]
            subprocess.run([sys.executable, "-m", "benchmarks.llip_loss", *given], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
