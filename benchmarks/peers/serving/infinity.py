"""`python infinity.py v2 ...`: Infinity's own command line, where torch is a build for the CPU.

Infinity imports torchvision, whose published wheel is compiled for CUDA. Beside another torch its operators are
missing, and its import ends where it attaches shapes to two of them. Infinity runs neither: their names are enough.
"""

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    operators = torch.library.Library("torchvision", "DEF")  # what it declares is gone when it is
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

if __name__ == "__main__":
    from infinity_emb.cli import cli

    cli()
