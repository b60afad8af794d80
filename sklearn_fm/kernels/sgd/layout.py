"""How a row of the table lies in memory: its vector, its weights and its solver's state.

One index is one stretch of one or two cache lines, so that a feature costs one trip to memory:

    [ v_1 .. v_K, padding | w_1 .. w_C | scale_v, scale_w, clock, mark | solver's own ]

``scale`` is the factor that the solver puts on the next gradient of v and of w; where v has
several accumulators, there are as many scales of v, each for its stretch. ``clock`` tells until
when the row has paid its penalties, ``mark`` is its place in the batch at hand.
One row more than the table has indices holds the bias in its weights.

Nothing is computed here.
"""

from __future__ import annotations

from dataclasses import dataclass

from numba import types

from ..compile import as_layout

__all__ = ["ADAGRAD", "ADAM", "FTRL", "NONE", "RULES", "SGD", "Layout"]

NONE, ADAGRAD, ADAM, SGD, FTRL = range(5)
_SIZES = (
    *("K", "stretch", "stretches", "scale_v", "scale_w", "clock", "mark"),
    *("own", "own_w", "width", "work_width"),
)
RULES = {"none": NONE, "adagrad": ADAGRAD, "adam": ADAM, "sgd": SGD, "ftrl": FTRL}


@as_layout
@dataclass(frozen=True)
class Layout:
    """Where the parts of a row stand.

    Parameters
    ----------
    embedding_dim : int
        Width of a vector.
    n_outputs : int
        Weights per index, C.
    solver : str, default="none"
        Rule whose state the row carries; "none" for a table that only predicts.
    accumulators : int, default=1
        Equal stretches of the vector that have an accumulator each, where the rule has any.
    """

    embedding_dim: int
    n_outputs: int
    solver: str = "none"
    accumulators: int = 1

    @property
    def sizes(self) -> tuple[str, ...]:
        """What kernels are told at run time: any number of stretches shares its kernels."""
        return _SIZES if self.accumulators > 1 else ()

    @property
    def number(self) -> types.Float:
        """Type of the numbers."""
        return types.float32

    @property
    def compiled(self) -> Layout:
        """The layout that stands for all of its room."""
        return Layout(self.K, self.n_outputs, self.solver)

    @property
    def stretches(self) -> int:
        """Parts of the vector with a scale of their own."""
        return self.accumulators if self.rule in (ADAGRAD, FTRL) else 1

    @property
    def stretch(self) -> int:
        """Room for one of them."""
        return self.K // self.stretches

    @property
    def lanes(self) -> int:
        """Numbers that a kernel takes at once."""
        if self.accumulators > 1:
            # Whole registers without padding, which a parameter, a view of all rows, could not
            # have between its columns.
            width = self.embedding_dim // self.accumulators
            return max(lanes for lanes in (1, 2, 4, 8, 16) if width % lanes == 0)
        if self.embedding_dim <= 4:
            return 4
        return 16 if -self.embedding_dim % 16 < 8 else 8

    @property
    def K(self) -> int:
        """Room for a vector: `embedding_dim` rounded up to whole registers."""
        return self.embedding_dim + -self.embedding_dim % self.lanes

    @property
    def C(self) -> int:
        """Weights per index."""
        return self.n_outputs

    @property
    def rule(self) -> int:
        """Number of the solver's rule."""
        return RULES[self.solver]

    @property
    def scale_v(self) -> int:
        """Position of the vector's scale, or of that of its first stretch."""
        return self.K + self.C

    @property
    def scale_w(self) -> int:
        """Position of the weights' scale."""
        return self.scale_v + self.stretches

    @property
    def clock(self) -> int:
        """Position of the clock."""
        return self.scale_w + 1

    @property
    def mark(self) -> int:
        """Position of the mark."""
        return self.scale_w + 2

    @property
    def own(self) -> int:
        """First position of the solver's own numbers.

        "adagrad": accumulators of v and of w. "ftrl": accumulators of v, then z and n of the
        weights. "adam": count, first moments of v and w, second moments of v and w.
        """
        return self.scale_w + 3

    @property
    def own_w(self) -> int:
        """First position of those of the weights, where v has accumulators."""
        return self.own + self.stretches

    @property
    def width(self) -> int:
        """Numbers in a row, in multiples of half a cache line."""
        K, C, A = self.K, self.C, self.stretches
        own = {"none": -4, "sgd": 0, "adagrad": A + 1, "ftrl": A + 2 * C, "adam": 1 + 2 * (K + C)}
        used = self.own + own[self.solver]
        return used + -used % 8

    @property
    def work_width(self) -> int:
        """Numbers in a row of the work: [v | w | gradient of v | gradient of w]."""
        used = 2 * (self.K + self.C)
        return used + -used % 8
