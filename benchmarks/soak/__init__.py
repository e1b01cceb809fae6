"""The long runs: overload, memory, fairness, Redis failing, a reload and a stop in the middle of load."""
