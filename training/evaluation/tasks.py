"""What a model can be measured by."""

TASKS = ("zeroshot", "retrieval", "linear-probe", "few-shot", "robustness")
