"""A linear head fitted to vectors, held near the head that it begins with: multinomial logistic regression by L-BFGS.

A convex fit that runs until it converges forgets where it began. So the beginning is in the objective: the penalty is
on the distance to the initial head, L2-SP (Li, Grandvalet and Davoine 2018, arXiv 1802.01483, equation 4), and not on
the distance to zero. With an initial head of zeros that is the logistic regression of the linear probe.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax
from threadpoolctl import threadpool_limits

from model.embedder import Vectors
from training.evaluation.zeroshot import Targets

ITERATIONS = 1000
TOLERANCE = 1e-4  # of the gradient of the mean loss, as scikit-learn's logistic regression has it

SINGLE_THREAD_NUMBERS = 2**24  # of the vectors

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LinearHead:
    """Weights [classes, dim] and biases [classes]: the logits of vectors [pictures, dim]."""

    weights: Floats
    biases: Floats
    converged: bool = True

    def logits(self, vectors: Vectors) -> Vectors:
        """[pictures, classes]."""
        logits: Vectors = (vectors @ self.weights.T + self.biases).astype(np.float32)
        return logits


def limited_threads(vectors: Vectors) -> threadpool_limits:
    """One thread of BLAS in the `with`, unless there are many vectors: several wait for each other most of the time."""
    return threadpool_limits(1 if vectors.size <= SINGLE_THREAD_NUMBERS else None, "blas")


def fit_head(
    vectors: Vectors, targets: Targets, initial: Floats, strength: float, tolerance: float = TOLERANCE
) -> LinearHead:
    """The head of the least cross-entropy of `targets` [pictures], plus strength / 2 times the squared distance.

    The distance is that of its weights to `initial` [classes, dim]; biases begin at zero and are free, as in the linear
    probe. `vectors` [pictures, dim] are the image tower's. A class that no target has keeps its initial weights, as
    far as the others leave it alone.
    """
    rows = vectors.astype(np.float64)
    classes, dimensions = initial.shape
    offsets, truth = rows @ initial.T, np.arange(len(rows))
    # Steps of the weights are measured in units in which a strong penalty is as steep as a weak one: with the biases,
    # which have none, it would be a narrow valley of hundreds of iterations.
    unit = max(1.0, strength) ** -0.5

    def split(flat: Floats) -> tuple[Floats, Floats]:
        return unit * flat[: classes * dimensions].reshape(classes, dimensions), flat[classes * dimensions :]

    def loss(flat: Floats) -> tuple[float, Floats]:
        moved, biases = split(flat)
        logarithms = log_softmax(offsets + rows @ moved.T + biases, axis=1)
        residues = np.exp(logarithms)
        residues[truth, targets] -= 1
        value = -logarithms[truth, targets].sum() + strength / 2 * (moved**2).sum()
        slopes = unit * (residues.T @ rows + strength * moved)
        gradient = np.concatenate([slopes.ravel(), residues.sum(axis=0)])
        return float(value) / len(rows), gradient / len(rows)

    options = {"maxiter": ITERATIONS, "gtol": tolerance, "ftol": 64 * np.finfo(np.float64).eps}
    with limited_threads(vectors):
        found = minimize(loss, np.zeros(classes * (dimensions + 1)), jac=True, method="L-BFGS-B", options=options)
    moved, biases = split(found.x)
    return LinearHead(initial + moved, biases, found.nit < ITERATIONS)
