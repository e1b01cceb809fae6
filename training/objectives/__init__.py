"""What is optimised: a file for each loss between the images and texts of a batch, by `objective.kind`.

To add one: a file here with a class like `Contrastive`, a line below, and its name in `Objective.kind` of
training/config/optimization.py, where its own fields, if it has any, are a section of that name.
"""

from collections.abc import Callable

from training.config import Objective as ObjectiveConfig
from training.objectives.categories import CategoryLoss
from training.objectives.contrastive import Contrastive
from training.objectives.llip import Llip
from training.objectives.objective import Objective
from training.objectives.rank import Rank
from training.objectives.sigmoid import Sigmoid

OBJECTIVES: dict[str, Callable[[ObjectiveConfig], Objective]] = {
    "contrastive": Contrastive,
    "sigmoid": Sigmoid,
    "rank": Rank,
    "llip": Llip,
    "categories": CategoryLoss,
}


def build_objective(config: ObjectiveConfig) -> Objective:
    """The loss that a configuration names."""
    return OBJECTIVES[config.kind](config)
