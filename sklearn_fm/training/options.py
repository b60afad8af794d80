"""Numbers and choices that a training step depends on, besides model and loss."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StepOptions"]


@dataclass(frozen=True)
class StepOptions:
    """How a step is taken; the estimator's parameters of the same names say more."""

    solver: str = "adagrad"
    solver_dense: str = "adam"
    learning_rate: float = 0.05
    learning_rate_dense: float = 0.001
    l1_linear: float = 0.0
    l2_linear: float = 0.0
    l2_embedding: float = 0.0
    l2_dense: float = 0.0
    initial_accumulator: float = 0.1
    gradient_clip: float | None = None
    unknown_dropout: float = 0.0
    n_threads: int = 1
    dense_threads: int | None = None  # torch's own number
    deterministic: bool = True
    seen: float = 1.0  # weight of all rows trained on, now and before, over that of those now

    def penalty(self, prior: str) -> float:
        """Precision of a prior by its name, "linear" or "embedding"."""
        return {"linear": self.l2_linear, "embedding": self.l2_embedding}[prior]
