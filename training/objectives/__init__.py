"""What is optimised: a file for each loss between the images and texts of a batch, by `objective.kind`.

To add one: a file here with a class like `Contrastive`, a line below, and its name in `Objective.kind` of
training/config/optimization.py.
"""

from training.objectives.contrastive import Contrastive
from training.objectives.objective import Objective
from training.objectives.sigmoid import Sigmoid

OBJECTIVES: dict[str, Objective] = {"contrastive": Contrastive(), "sigmoid": Sigmoid()}
