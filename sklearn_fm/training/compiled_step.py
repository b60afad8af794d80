"""The step on a CPU: below the embeddings compiled kernels, above them torch.

Tables, weights and the solver's state lie in one packed array that torch owns; the model's
parameters are views of it. What a kernel computes is told in ``kernels``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..kernels.sgd.rules import StepNumbers, settle
from ..kernels.sgd.step import LOSSES, Entries, RowLoss, Scratch, Team, gather, scatter, train_fm
from ..kernels.threads import Workers, make_sync, run_parts
from ..models.contract import FieldModel
from .losses import BinaryLogLoss, Loss, SquaredError
from .options import StepOptions
from .packing import batch_entries, entries_of, fields_of, pack
from .rows import Batch, CSRRows, Rows, check_rows
from .stepper import Stepper

__all__ = ["CompiledStepper"]

_NOTHING = np.empty((0, 0), dtype=np.float32)
_OWN_SHARE = 4096  # rows of a table that are worth a thread
_THREAD_NUMBERS = 2**20  # numbers in the embeddings of a batch that are


class CompiledStepper(Stepper):
    """Takes steps on the CPU by compiled kernels; parameters as for `Stepper`.

    The model must be of float32 and on the CPU. Its parameters become views of one packed
    array.
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
        layout, table = pack(model, options.solver)
        super().__init__(model, loss, options, total_weight, generator, batch_size)
        self.layout, self.table = layout, table
        self._clock = 0.0
        self._paid = torch.zeros(2, dtype=torch.float64)  # of the linear term, for "ftrl"
        self._sync = make_sync()
        self._workers: Workers | None = None
        if options.n_threads > 1:
            self._workers = Workers(options.n_threads)
        self._scratch: list[Scratch] = []
        self._n_pooled = fields_of(model).n_pooled
        self._has_pairs, self._has_fields = "pairs" in model.reads, "fields" in model.reads
        self._e = torch.zeros(0, 0)
        self._start_state()

    def _start_state(self) -> None:
        """Start values of the solver's state."""
        L, table, start = self.layout, self.table, self.options.initial_accumulator
        table[:, L.scale_v : L.own] = 0
        solver = self.options.solver
        if solver == "sgd":
            table[:, L.scale_v : L.clock] = 1 / self.batch_size
        elif solver == "adam":
            table[:, L.own :] = 0
        else:
            table[:, L.own :] = start
            table[:, L.scale_v : L.clock] = start**-0.5
        if solver == "ftrl":
            # The sum of gradients that makes the start values optimal.
            weights = table[:, L.K : L.K + L.C]
            z = table[:, L.own_w : L.own_w + L.C]
            np.multiply(weights, -(start**0.5) / self.options.learning_rate, out=z)
        self._freeze()

    def _freeze(self) -> None:
        """Let frozen rows have seen infinite gradients of the vector: its steps are then 0."""
        if self.model.frozen_rows is None:
            return
        L, rows = self.layout, self.model.frozen_rows.numpy()
        self.table[rows, L.scale_v : L.scale_w] = 0
        if self.options.solver in ("adagrad", "ftrl"):
            self.table[rows, L.own : L.own_w] = np.inf
        elif self.options.solver == "adam":
            first = L.own + 1 + L.K + L.C
            self.table[rows, first : first + L.K] = np.inf

    def run(self, rows: Rows, order: Tensor) -> NDArray[np.float64]:
        """Take steps on consecutive batches."""
        check_rows(rows, self.model)
        if self._is_fm() and not self._drops(rows):
            return self._run_fm(rows, rows.locate(order))
        losses = []
        for chosen in order.split(self.batch_size):
            losses.append(self._step(rows, chosen))
            if not np.isfinite(losses[-1]):
                break
        return np.array(losses)

    def settle(self) -> None:
        """Pay the penalties that rows of the tables still owe, so that they can be read."""
        step = self._make_step(self._clock)
        n_rows = len(self.table) - 1
        n_parts = min(self.options.n_threads, 1 + n_rows // _OWN_SHARE)

        def work(part: int) -> None:
            first, last = n_rows * part // n_parts, n_rows * (part + 1) // n_parts
            settle(self.layout, self.table, first, last, step)

        run_parts(self._workers, n_parts, work, self._sync)
        self._clock = 0.0

    def table_state(self) -> dict[str, Tensor]:
        """What the rules remember; writing to the tensors sets it."""
        L, C = self.layout, self.layout.C
        K = L.embedding_dim
        table = torch.from_numpy(self.table)
        own, own_w = table[:, L.own :], table[:, L.own_w :]
        # By the rule of each table, the columns of its numbers.
        if self.options.solver == "adagrad":
            columns = {
                "embedding.accumulator": own[:, : L.stretches],
                "linear.accumulator": own_w[:, :1],
            }
        elif self.options.solver == "adam":
            mean, square = own[:, 1:], own[:, 1 + L.K + C :]
            columns = {
                "embedding.count": own[:, :1],
                "linear.count": own[:, :1],
                "embedding.mean": mean[:, :K],
                "linear.mean": mean[:, L.K : L.K + C],
                "embedding.square": square[:, :K],
                "linear.square": square[:, L.K : L.K + C],
            }
        elif self.options.solver == "ftrl":
            columns = {
                "embedding.accumulator": own[:, : L.stretches],
                "linear.sums": own_w[:, :C],
                "linear.squares": own_w[:, C : 2 * C],
            }
        else:
            columns = {}
        state = {name: column[:-1] for name, column in columns.items()}
        for name, column in columns.items():
            if name.startswith("linear."):
                state[name.replace("linear.", "bias.")] = column[-1:]
        if self.options.solver == "ftrl":
            state |= {"linear.paid": self._paid, "bias.paid": torch.zeros(2, dtype=torch.float64)}
        known = {*self.model.table_specs, "bias"}
        return {name: value for name, value in state.items() if name.split(".")[0] in known}

    def state(self) -> dict[str, Any]:
        """What a later training must know; frozen rows have seen nothing yet, should they thaw."""
        state = super().state()
        if self.model.frozen_rows is not None:
            rows = self.model.frozen_rows.numpy()
            start = {"accumulator": self.options.initial_accumulator}
            for name, values in state["tables"].items():
                table, key = name.split(".")
                if table == "embedding":
                    values[rows] = start.get(key, 0)
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        super().load_state(state)
        L, table = self.layout, self.table
        K, C = L.embedding_dim, L.C
        if self.options.solver in ("adagrad", "ftrl"):
            table[:, L.scale_v : L.scale_w] = table[:, L.own : L.own_w] ** -0.5
        if self.options.solver == "ftrl":  # the same weights at another learning rate
            root = np.sqrt(table[:, L.own_w + C : L.own_w + 2 * C])
            change = 1 / state["learning_rate"] - 1 / self.options.learning_rate
            table[:, L.own_w : L.own_w + C] += table[:, L.K : L.K + C] * root * change
        if self.options.solver == "adagrad":
            table[:, L.scale_w] = table[:, L.own_w] ** -0.5
        if self.options.solver == "adam":
            count = table[:, L.own]
            square = table[:, L.own + 1 + L.K + C :]
            for scale, part in ((L.scale_v, square[:, :K]), (L.scale_w, square[:, L.K : L.K + C])):
                mean = part.mean(axis=1) / (1 - np.float32(0.999) ** np.maximum(count, 1))
                table[:, scale] = (mean > 0) / (np.sqrt(mean) + np.float32(1e-8))
        self._freeze()

    # -- factorization machines: whole batches in one kernel ----------------------------

    def _is_fm(self) -> bool:
        model, known = self.model, (BinaryLogLoss, SquaredError)
        return model.fused == "fm" and model.n_outputs == 1 and isinstance(self.loss, known)

    def _drops(self, rows: Rows) -> bool:
        """Whether indices are replaced by their field's unknown; padded rows have no fields."""
        padded = isinstance(rows.storage, CSRRows) and not rows.storage.spread
        return self.options.unknown_dropout > 0 and not padded

    def _run_fm(self, rows: Rows, order: Tensor) -> NDArray[np.float64]:
        if not len(order):
            return np.zeros(0)
        storage = rows.storage
        entries = entries_of(storage, self.model)
        weight = storage.weight.numpy()
        loss = _kernel_loss(self.loss, storage.target.numpy(), weight)
        chosen = order.numpy()
        starts = np.arange(0, len(chosen), self.batch_size)
        shares = np.add.reduceat(weight[chosen], starts, dtype=np.float64) / self.total_weight
        before = np.cumsum(shares) - shares
        options = self.options
        paid = np.empty((len(starts), 3), dtype=np.float32)
        paid[:, 0] = self._clock + self.learning_rate * before
        paid[:, 1:] = self._paid.numpy() + before[:, None] * self._linear_penalties()
        step = self._make_step(0.0)
        n_parts = options.n_threads
        n_entries = self._most_entries(entries, chosen)
        losses = np.zeros(len(starts))
        if options.deterministic or n_parts == 1:
            rooms = self._room(1, n_entries, n_parts) * n_parts
            teams = [Team(part, n_parts, self._sync, 0, 1) for part in range(n_parts)]
        else:  # Hogwild: each thread is a team of its own, for some of the batches
            rooms = self._room(n_parts, n_entries, 1)
            teams = [Team(0, 1, self._sync, part, n_parts) for part in range(n_parts)]

        def work(part: int) -> None:
            train_fm(
                self.layout,
                self.table,
                entries,
                chosen,
                self.batch_size,
                loss,
                step,
                paid,
                rooms[part],
                losses,
                teams[part],
            )

        run_parts(self._workers, n_parts, work, self._sync)
        self._advance(float(shares.sum()))
        self.optimizer.step()  # of nothing, but schedulers want to see it
        bad = np.flatnonzero(~np.isfinite(losses))
        return losses[: bad[0] + 1] if len(bad) else losses

    # -- any model: one batch, torch in the middle ---------------------------------------

    def _step(self, rows: Rows, chosen: Tensor) -> float:
        model, L, m = self.model, self.layout, len(chosen)
        K = L.embedding_dim
        if rows.storage.spread or self._drops(rows):
            batch = self._drop_to_unknown(rows.take(chosen))
            entries, order = batch_entries(batch, model), np.arange(m)
        else:
            positions = rows.locate(chosen)
            storage = rows.storage
            nothing = chosen.new_zeros(0)
            batch = Batch(nothing, nothing, storage.target[positions], storage.weight[positions])
            entries, order = entries_of(storage, model), positions.numpy()
        n_entries = self._most_entries(entries, order)
        # Handing a part to another thread takes longer than a small batch.
        n_parts = self.options.n_threads if n_entries * L.K >= _THREAD_NUMBERS else 1
        scratch = self._room(1, n_entries, n_parts)[0]
        step = self._make_step(self._clock)
        e, e_array = None, _NOTHING
        if self._has_fields:
            e = self._embeddings(m, entries.fields.n_fields)
            e_array = e.numpy().reshape(m, -1)

        teams = [Team(part, n_parts, self._sync, 0, 1) for part in range(n_parts)]
        counts = run_parts(
            self._workers,
            n_parts,
            lambda part: gather(
                L,
                self.table,
                entries,
                order,
                step,
                scratch,
                self._has_pairs,
                e_array,
                teams[part],
            ),
            self._sync,
        )
        slope, pull, push = (
            torch.from_numpy(a[:m]) for a in (scratch.slope, scratch.pull, scratch.push)
        )
        start = (slope + model.bias.detach()).requires_grad_()
        pairs = pull[:, :K].clone().requires_grad_() if self._has_pairs else None
        if e is not None:
            e = e.detach().requires_grad_()

        def compute_raw() -> Tensor:
            return model.finish(start, pairs, None if e is None else e[..., :K])

        loss = float(self._differentiate(compute_raw, batch))
        if not np.isfinite(loss):
            return loss
        slope.zero_() if start.grad is None else slope.copy_(start.grad)
        by_pairs = pairs is not None and pairs.grad is not None
        if pairs is not None and pairs.grad is not None:
            pull[:, :K] = pairs.grad
            push[:, :K] *= pairs.grad
        de_array = _NOTHING
        if e is not None and e.grad is not None:
            de_array = e.grad.contiguous().numpy().reshape(m, -1)
        share = float(batch.weight.sum()) / self.total_weight
        self._finish_dense_gradients(share)
        run_parts(
            self._workers,
            n_parts,
            lambda part: scatter(
                L,
                self.table,
                entries,
                order,
                counts[part],
                step,
                scratch,
                by_pairs,
                de_array,
                teams[part],
            ),
            self._sync,
        )
        self.optimizer.step()
        self._advance(share)
        return loss

    # -- helpers -------------------------------------------------------------------------

    def _advance(self, share: float) -> None:
        """Let the clocks go on by a share of all training weight."""
        self._clock += self.learning_rate * share
        self._paid += torch.tensor(self._linear_penalties(), dtype=torch.float64) * share

    def _penalty(self, table: str) -> float:
        """Precision of the prior of a table, 0 if there is no such table."""
        spec = self.model.table_specs.get(table)
        return 0.0 if spec is None else self.penalties[spec.prior]

    def _linear_penalties(self) -> tuple[float, float]:
        """Penalties of the linear term, as "ftrl" pays them."""
        return self.options.l1_linear, self._penalty("linear")

    def _make_step(self, clock: float) -> StepNumbers:
        numbers = (
            self.layout.embedding_dim / self.layout.stretches,
            self.learning_rate,
            self._penalty("linear"),
            self._penalty("embedding"),
            clock,
            *self._paid.tolist(),
        )
        return StepNumbers(*(np.float32(number) for number in numbers))

    def _most_entries(self, entries: Entries, order: NDArray[np.int64]) -> int:
        """Entries of the largest batch."""
        if entries.width or not len(order):
            return self.batch_size * entries.width
        lengths = entries.starts[order + 1] - entries.starts[order]
        return int(np.add.reduceat(lengths, np.arange(0, len(order), self.batch_size)).max())

    def _room(self, n_scratch: int, n_entries: int, n_parts: int) -> list[Scratch]:
        """Scratch for batches of so many entries, kept from one call to the next."""
        n_work = n_entries * n_parts
        if len(self._scratch) < n_scratch or self._scratch[0].capacity < n_work:
            L, B = self.layout, self.batch_size
            B_pairs = B if self._has_pairs else 0

            def floats(*shape: int) -> NDArray[np.float32]:
                return np.zeros(shape, dtype=np.float32)

            self._scratch = [
                Scratch(
                    np.zeros(B + 1, dtype=np.int64),
                    np.zeros(max(n_entries, 1), dtype=np.int32),
                    np.zeros(max(n_work, 1), dtype=np.int64),
                    floats(n_work + 1, L.work_width),
                    floats(B_pairs, L.K),
                    floats(B_pairs, L.K),
                    floats(B, L.C),
                    floats(B),
                    floats(B_pairs, self._n_pooled * L.K),
                    n_work,
                )
                for _ in range(n_scratch)
            ]
        return self._scratch

    def _embeddings(self, n_rows: int, n_fields: int) -> Tensor:
        """Room for the embeddings of a batch, padding included."""
        if self._e.shape[1:] != (n_fields, self.layout.K):
            self._e = torch.zeros(self.batch_size, n_fields, self.layout.K)
        return self._e[:n_rows]


def _kernel_loss(loss: Loss, target: NDArray[Any], weight: NDArray[Any]) -> RowLoss:
    kind, low, high = "binary", 0.0, 0.0
    if isinstance(loss, SquaredError):
        kind = "squared" if loss.y_range is None else "ranged"
        low, high = loss.encoded_range
    return RowLoss(LOSSES[kind], np.float32(low), np.float32(high), target, weight)
