"""What all ways to take a training step share: learning rates, penalties, the dense layers.

Autograd sees only what lies above the embeddings; the tables are the business of ``torch_step``
and ``compiled_step``. What epochs and callbacks are is not known here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..layers.randomness import PrivateRandomness, may_draw
from ..models.contract import FieldModel
from .losses import Loss
from .options import StepOptions
from .rows import Batch, Rows

__all__ = ["Stepper"]


class Stepper:
    """What both ways to take steps share: learning rates, penalties, the dense layers.

    Parameters
    ----------
    model : FieldModel
        Trained in place.
    loss : Loss
        What is minimized.
    options : StepOptions
        Solver, step sizes, penalties.
    total_weight : float
        Sum of the sample weights that an epoch passes through; makes the penalties
        mean the same for any batch size.
    generator : torch.Generator
        Randomness of `unknown_dropout` and of the model's layers, on the CPU.
    batch_size : int
        Rows of a full batch.
    """

    def __init__(
        self,
        model: FieldModel,
        loss: Loss,
        options: StepOptions,
        total_weight: float,
        generator: torch.Generator,
        batch_size: int,
    ) -> None:
        self.model = model
        self.loss = loss
        self.options = options
        self.total_weight = total_weight
        self.generator = generator
        self.batch_size = batch_size
        # Only where needed: it looks at each operation of torch.
        self._randomness: contextlib.AbstractContextManager[Any] = (
            PrivateRandomness(generator) if may_draw(model) else contextlib.nullcontext()
        )
        by_row = {id(model.bias)} | {id(table) for table in model.sparse_tables().values()}
        self.dense = [p for p in model.parameters() if id(p) not in by_row]
        self.optimizer = _make_optimizer(self.dense, options)
        self._unknown = torch.tensor(model.schema.unknown_rows, device=model.bias.device)
        #: Precision of each prior that tables of the model have, by its name.
        self.penalties = {
            table.prior: options.penalty(table.prior) for table in model.table_specs.values()
        }

    def set_penalty(self, prior: str, penalty: float) -> None:
        """Change a prior from the next step on; what is owed must have been paid."""
        self.penalties[prior] = penalty

    def run(self, rows: Rows, order: Tensor) -> NDArray[np.float64]:
        """Take steps on consecutive batches.

        Parameters
        ----------
        rows : Rows
            All rows.
        order : Tensor of shape (n,)
            Those to visit, in order.

        Returns
        -------
        ndarray of shape (n_batches,)
            Summed weighted loss of each batch before its step. If one is not finite, no step
            was taken on it, and it is the last.
        """
        raise NotImplementedError

    def settle(self) -> None:
        """Pay the penalties that rows of the tables still owe, so that they can be read."""
        raise NotImplementedError

    def table_state(self) -> dict[str, Tensor]:
        """What the solver remembers of the tables; writing to the tensors sets it."""
        raise NotImplementedError

    @property
    def learning_rate(self) -> float:
        """Current step size of the tables; "ftrl" has one for all times."""
        if self.options.solver == "ftrl":
            return self.options.learning_rate
        return self.optimizer.param_groups[1]["lr"]

    @property
    def learning_rates(self) -> tuple[float, float]:
        """Current step sizes of the dense layers and of the tables."""
        dense, tables = self.optimizer.param_groups
        return dense["lr"], tables["lr"]

    def set_learning_rates(self, dense: float, tables: float) -> None:
        """Change both step sizes from the next step on."""
        for group, rate in zip(self.optimizer.param_groups, (dense, tables), strict=True):
            group["lr"] = rate

    def state(self) -> dict[str, Any]:
        """What a later training must know to go on as if never interrupted, as numpy."""
        tables = {name: value.cpu().numpy().copy() for name, value in self.table_state().items()}
        dense = _convert(self.optimizer.state_dict(), Tensor, lambda t: t.cpu().numpy().copy())
        return {
            "solver": self.options.solver,
            "learning_rate": self.options.learning_rate,
            "schema": self.model.schema,
            "tables": tables,
            "dense": dense,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave, also for a table that has grown since."""
        kept = self.model.schema.rows_kept(state["schema"])
        assert kept is not None
        for name, value in self.table_state().items():
            then = torch.from_numpy(state["tables"][name])
            if value.shape == then.shape:  # that of a table that has grown differs
                value.copy_(then)
                continue
            for before, now, n_rows in kept:
                value[now : now + n_rows] = then[before : before + n_rows]
        dense = _convert(state["dense"], np.ndarray, torch.tensor)
        self.optimizer.load_state_dict(dense)
        # The step sizes asked for now, not those of then.
        self.set_learning_rates(self.options.learning_rate_dense, self.options.learning_rate)

    def _differentiate(self, compute_raw: Callable[[], Tensor], batch: Batch) -> Tensor:
        """Summed loss of a batch, its gradients left in the leaves if it is finite."""
        buffers = [buffer.clone() for buffer in self.model.buffers()]  # batch norm's statistics
        with torch.enable_grad():
            with self._randomness:
                raw = compute_raw()
            loss = (self.loss.value(raw, batch) * batch.weight).sum()
        if not torch.isfinite(loss):
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            return loss.detach()
        for parameter in self.dense:
            parameter.grad = None
        loss.backward()
        return loss.detach()

    def _finish_dense_gradients(self, share: float) -> None:
        """Gradient of the summed loss to that of the mean objective of a row."""
        for parameter in self.dense:
            if parameter.grad is None:
                continue
            if self.options.l2_dense and parameter.ndim > 1:
                parameter.grad += self.options.l2_dense * share * parameter.detach()
            parameter.grad /= self.batch_size

    def _drop_to_unknown(self, batch: Batch) -> Batch:
        indices = batch.indices
        if not self.options.unknown_dropout or len(self._unknown) != indices.shape[1]:
            return batch
        draw = torch.rand(indices.shape, generator=self.generator).to(indices.device)
        drop = (draw < self.options.unknown_dropout) & (self._unknown >= 0)
        return batch._replace(indices=torch.where(drop, self._unknown.to(indices.dtype), indices))


def _convert(tree: Any, kind: type, convert: Callable[[Any], Any]) -> Any:
    """Nested dicts and lists with every leaf of one type converted."""
    if isinstance(tree, dict):
        return {key: _convert(value, kind, convert) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_convert(value, kind, convert) for value in tree]
    return convert(tree) if isinstance(tree, kind) else tree


def _make_optimizer(dense: list[torch.nn.Parameter], options: StepOptions) -> torch.optim.Optimizer:
    """torch's optimizer of the dense layers.

    Its second group holds an empty parameter that stands for the tables: schedulers act on
    the group's learning rate, the row rules read it.
    """
    tables = torch.nn.Parameter(torch.zeros(0))
    groups = [
        {"params": dense, "lr": options.learning_rate_dense},
        {"params": [tables], "lr": options.learning_rate},
    ]
    if options.solver_dense == "adam":
        return torch.optim.Adam(groups)
    if options.solver_dense == "sgd":
        return torch.optim.SGD(groups)
    return torch.optim.Adagrad(groups, initial_accumulator_value=0.1)
