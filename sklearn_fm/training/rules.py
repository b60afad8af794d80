"""Rules that update single rows of a table, with the penalty on all rows caught up lazily.

The dense layers above the tables use torch's own optimizers.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ..models.contract import Table
from .options import StepOptions

__all__ = [
    "ROW_RULES",
    "RowAdagrad",
    "RowAdam",
    "RowFTRL",
    "RowRule",
    "RowSGD",
    "make_rules",
]


class RowRule:
    """State and arithmetic of one solver for one table.

    The objective is the sum of the losses plus penalty / 2 * |table|^2. A step sees the
    summed gradient of a batch that holds a share of all rows, and owes that share of the
    penalty to *every* row of the table. Rows outside the batch are left alone; a clock,
    the sum of learning rate times share, tells later how much shrinking a row has missed:

        row *= exp(-(clock now - clock of the row) * penalty * scale)

    with the scale that the rule gives to gradients of that row. This is what stepping
    through the whole table would have done, up to terms of second order in the rate.

    Parameters
    ----------
    weight : Tensor of shape (table_size, W)
        The table, updated in place.
    penalty : float
        Precision of the Gaussian prior on its entries.
    """

    #: Step size to start from where nothing is known of the data.
    learning_rate: ClassVar[float]

    def __init__(self, weight: Tensor, penalty: float) -> None:
        self.weight = weight
        self.penalty = penalty
        self.clock = 0.0
        self.row_clock = weight.new_zeros(len(weight), 1)
        self.mobility: Tensor | None = None

    def freeze(self, rows: Tensor) -> None:
        """Leave some rows as they are from now on, (n,)."""
        self.mobility = torch.ones_like(self.row_clock)
        self.mobility[rows] = 0

    def scale(self, rows: Any) -> Tensor | float:
        """Factor that the rule puts on a gradient of these rows now."""
        raise NotImplementedError

    def direction(self, rows: Tensor, gradient: Tensor) -> Tensor:
        """Take note of a gradient, return the step to subtract per unit of learning rate."""
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """Tensors with one row per table row that must survive between fits."""
        return {}

    def _shrinkage(self, rows: Any) -> Tensor:
        missed = self.clock - self.row_clock[rows]
        if self.mobility is not None:
            missed = missed * self.mobility[rows]
        return torch.exp(-missed * self.penalty * self.scale(rows))

    def fetch(self, rows: Tensor) -> Tensor:
        """Rows of the table with all penalties paid until now, (U, W)."""
        values = self.weight[rows]
        if self.penalty:
            values = values * self._shrinkage(rows)
        return values

    def update(
        self,
        rows: Tensor,
        values: Tensor,
        gradient: Tensor,
        *,
        learning_rate: float,
        share: float,
    ) -> None:
        """Step on fetched rows and put them back.

        Parameters
        ----------
        rows : Tensor of shape (U,)
            Distinct indices.
        values : Tensor of shape (U, W)
            What `fetch` gave for them.
        gradient : Tensor of shape (U, W)
            Gradient of the batch's summed loss.
        learning_rate : float
            Step size.
        share : float
            Weight of the batch as a share of all training weight.
        """
        self.row_clock[rows] = self.clock
        step = self.direction(rows, gradient)
        if self.mobility is not None:
            step = step * self.mobility[rows]
        self.weight[rows] = values - learning_rate * step
        self.clock += learning_rate * share

    def settle(self) -> None:
        """Pay what every row of the table still owes; done once per epoch."""
        if self.penalty:
            self.weight *= self._shrinkage(slice(None))
        self.clock = 0.0
        self.row_clock.zero_()


class RowAdagrad(RowRule):
    """Adagrad with one accumulator per row, fed by the mean square of the row's gradient.

    With several accumulators, each belongs to one of as many equal stretches of the row.

    Parameters
    ----------
    weight : Tensor of shape (table_size, W)
        The table.
    penalty : float
        Precision of the prior.
    initial_accumulator : float, default=0.1
        Start of the accumulators; the larger, the smaller the first steps of rare rows.
    accumulators : int, default=1
        Number per row, A; a divisor of W.

    References
    ----------
    Duchi, Hazan, Singer (2011), Adaptive subgradient methods, JMLR 12.
    """

    learning_rate = 0.1

    def __init__(
        self,
        weight: Tensor,
        penalty: float,
        initial_accumulator: float = 0.1,
        accumulators: int = 1,
    ) -> None:
        super().__init__(weight, penalty)
        self.accumulator = weight.new_full((len(weight), accumulators), initial_accumulator)

    def state(self) -> dict[str, Tensor]:
        """The accumulators."""
        return {"accumulator": self.accumulator}

    def scale(self, rows: Any) -> Tensor:
        """1 / sqrt(accumulator)."""
        return self._stretch(self.accumulator[rows].rsqrt())

    def direction(self, rows: Tensor, gradient: Tensor) -> Tensor:
        """gradient / sqrt(accumulator), the gradient included."""
        stretches = gradient.square().unflatten(1, (self.accumulator.shape[1], -1))  # (U, A, W / A)
        accumulator = self.accumulator[rows] + stretches.mean(dim=2)
        self.accumulator[rows] = accumulator
        return gradient * self._stretch(accumulator.rsqrt())

    def _stretch(self, scale: Tensor) -> Tensor:
        """From one number per accumulator to what can be multiplied with rows of the table."""
        n = scale.shape[1]
        return scale if n == 1 else scale.repeat_interleave(self.weight.shape[1] // n, dim=1)


class RowAdam(RowRule):
    """Adam that advances the moments of a row only when the row occurs.

    Each row counts its own steps for the bias correction, so a row seen t times has the
    moments of Adam after t steps. A row that never saw a gradient is not shrunk either; one that
    did shrinks at one rate in all its coordinates.

    References
    ----------
    Kingma, Ba (2015), Adam, ICLR. arXiv:1412.6980
    """

    learning_rate = 0.001
    betas = (0.9, 0.999)
    epsilon = 1e-8

    def __init__(self, weight: Tensor, penalty: float) -> None:
        super().__init__(weight, penalty)
        self.mean = torch.zeros_like(weight)
        self.square = torch.zeros_like(weight)
        self.count = weight.new_zeros(len(weight), 1)

    def state(self) -> dict[str, Tensor]:
        """Both moments and the steps of each row."""
        return {"mean": self.mean, "square": self.square, "count": self.count}

    def scale(self, rows: Any) -> Tensor:
        """1 / (root mean square of the bias-corrected second moments + epsilon), 0 if that is 0."""
        count = self.count[rows]
        square = self.square[rows].mean(dim=1, keepdim=True)
        square = square / (1 - self.betas[1] ** count.clamp(min=1))
        return (square > 0) / (square.sqrt() + self.epsilon)

    def direction(self, rows: Tensor, gradient: Tensor) -> Tensor:
        """Bias-corrected first moment over the root of the second."""
        beta1, beta2 = self.betas
        count = self.count[rows] + 1
        mean = torch.lerp(gradient, self.mean[rows], beta1)
        square = torch.lerp(gradient.square(), self.square[rows], beta2)
        self.count[rows], self.mean[rows], self.square[rows] = count, mean, square
        root = (square / (1 - beta2**count)).sqrt()
        return mean / (1 - beta1**count) / (root + self.epsilon)


class RowSGD(RowRule):
    """Plain gradient descent on the mean loss of a batch."""

    learning_rate = 0.1

    def __init__(self, weight: Tensor, penalty: float, batch_size: int = 1) -> None:
        super().__init__(weight, penalty)
        self.batch_size = batch_size

    def scale(self, rows: Any) -> float:
        """1 / batch size."""
        return 1 / self.batch_size

    def direction(self, rows: Tensor, gradient: Tensor) -> Tensor:
        """Mean gradient; a batch that is short counts for less."""
        return gradient / self.batch_size


class RowFTRL(RowRule):
    """FTRL-proximal: each weight minimizes the regularized sum of all losses so far.

    With z the sum of gradients, corrected for the weights at which they were taken, and n that
    of their squares,

        w = 0 if |z| <= l1 t, else -(z - sign(z) l1 t) / (sqrt(n) / learning_rate + l2 t)

    where t counts passes over the data, so that the penalties mean the same as for the
    other solvers however long the training: the paper adds them once, to a sum that grows. It
    has exact zeros. Without penalties it is Adagrad with one accumulator per weight.

    Parameters
    ----------
    weight : Tensor of shape (table_size, W)
        The table.
    penalty : float
        Precision of the Gaussian prior, l2.
    l1 : float, default=0.0
        Strength of the Laplace prior.
    initial_accumulator : float, default=0.1
        Start of n.
    learning_rate : float, default=0.1
        Step size, the same throughout.

    References
    ----------
    McMahan et al. (2013), Ad click prediction: a view from the trenches, KDD, algorithm 1.
    """

    learning_rate = 0.1

    def __init__(
        self,
        weight: Tensor,
        penalty: float,
        l1: float = 0.0,
        initial_accumulator: float = 0.1,
        learning_rate: float = 0.1,
    ) -> None:
        super().__init__(weight, penalty)
        self.l1 = l1
        self.rate = learning_rate
        self.squares = torch.full_like(weight, initial_accumulator)
        # The sum of gradients that makes the start values optimal.
        self.sums = -weight * self.squares.sqrt() / learning_rate
        self.paid = torch.zeros(2, dtype=torch.float64)  # l1 t and l2 t

    def state(self) -> dict[str, Tensor]:
        """Sums of gradients and squares, and the penalties paid."""
        return {"sums": self.sums, "squares": self.squares, "paid": self.paid}

    def change_rate(self, before: float) -> None:
        """Make sums that were taken at another learning rate give the same weights at this one."""
        self.sums += self.weight * self.squares.sqrt() * (1 / before - 1 / self.rate)

    def fetch(self, rows: Any) -> Tensor:
        """Rows of the table as the sums say."""
        sums, (l1, l2) = self.sums[rows], self.paid.tolist()
        beyond = sums.sign() * (sums.abs() - l1).clamp(min=0)
        return -beyond / (self.squares[rows].sqrt() / self.rate + l2)

    def update(
        self, rows: Tensor, values: Tensor, gradient: Tensor, *, learning_rate: float, share: float
    ) -> None:
        """Add a gradient to the sums, and put the weights that follow back.

        The learning rate is that of the construction: one for all gradients in the sum.
        """
        before = self.squares[rows]
        squares = before + gradient.square()
        growth = (squares.sqrt() - before.sqrt()) / self.rate
        self.sums[rows] += gradient - growth * values
        self.squares[rows] = squares
        self.weight[rows] = self.fetch(rows)
        self.paid += torch.tensor([self.l1, self.penalty], dtype=torch.float64) * share

    def settle(self) -> None:
        """Set every weight to what the sums say."""
        self.weight[:] = self.fetch(slice(None))


ROW_RULES: dict[str, type[RowRule]] = {
    "adagrad": RowAdagrad,
    "adam": RowAdam,
    "ftrl": RowFTRL,
    "sgd": RowSGD,
}


def make_rules(
    weights: dict[str, Tensor], tables: dict[str, Table], options: StepOptions, batch_size: int
) -> dict[str, RowRule]:
    """Rule of each table: the solver's own, which for "ftrl" is Adagrad's for the embeddings.

    Parameters
    ----------
    weights : dict of str to Tensor
        The tables by name, each with one row per index, and "bias" with a single row.
    tables : dict of str to Table
        What they are; the bias is none, and has no prior.
    options : StepOptions
        Solver, priors.
    batch_size : int
        Rows of a full batch.

    Returns
    -------
    dict of str to RowRule
    """
    start = options.initial_accumulator
    rules: dict[str, RowRule] = {}
    for name, weight in weights.items():
        table = tables.get(name)
        penalty = 0.0 if table is None else options.penalty(table.prior)
        if options.solver == "sgd":
            rules[name] = RowSGD(weight, penalty, batch_size)
        elif options.solver == "adam":
            rules[name] = RowAdam(weight, penalty)
        elif options.solver == "ftrl" and name != "embedding":
            l1 = options.l1_linear if name == "linear" else 0.0
            rules[name] = RowFTRL(weight, penalty, l1, start, options.learning_rate)
        else:
            n = 1 if table is None else table.accumulators
            rules[name] = RowAdagrad(weight, penalty, start, n)
    return rules
