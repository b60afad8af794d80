"""What solvers of blocks ask of a problem, and how weights travel between blocks and a module.

A block is the vector and weight of one index. How blocks are updated is told in ``contract``.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ...data.array import FieldArray
from ...models.contract import FieldModel
from ..merging import MERGED_ROWS, merge_equal_rows
from ..problem import Problem
from .contract import BlockTable
from .design import Design, make_design
from .table import make_block_table

__all__ = [
    "find_refusal",
    "in_order",
    "read_module",
    "table_of_blocks",
    "write_module",
]


def find_refusal(problem: Problem, name: str, others: dict[str, bool]) -> str | None:
    """Why a problem is not for a solver of blocks.

    Parameters
    ----------
    problem : Problem
        What to fit.
    name : str
        The solver.
    others : dict of str to bool
        Further reasons, each with whether it holds.

    Returns
    -------
    str or None
        A sentence for the user; None if the problem can be fitted.
    """
    options = problem.options
    wrong = {
        "has no partial_fit: it needs all rows at once": problem.one_pass,
        "takes no callbacks of skorch": bool(options.callbacks),
        "takes no pretrained embeddings": problem.find_pretrained is not None,
        "has no l1_linear": options.l1_linear > 0,
        "fits no hidden layers": not is_factorization_machine(problem),
        "needs rows that fit into memory": problem.is_on_disk,
        **others,
    }
    why = "" if name == options.solver else " (which loss or noise_field ask for)"
    return next((f"solver={name!r}{why} {what}." for what, is_so in wrong.items() if is_so), None)


def is_factorization_machine(problem: Problem) -> bool:
    """Whether raw predictions are linear in the weights of any one index.

    Parameters
    ----------
    problem : Problem
        What to fit.

    Returns
    -------
    bool
    """
    spec = problem.spec
    return spec.model_class.fused == "fm" and not spec.arguments.get("hidden_layer_sizes", ())


def in_order(problem: Problem) -> Problem:
    """The same problem with equal rows merged, or with rows sorted where there are many.

    Parameters
    ----------
    problem : Problem
        What to fit.

    Returns
    -------
    Problem
        A row of weight 2 is exactly the row twice, if rows are few; else neighbours share blocks.
    """
    if len(problem.target) <= MERGED_ROWS:
        return problem.at(*merge_equal_rows(problem.rows, problem.target, problem.weight))
    if not isinstance(problem.rows, FieldArray):
        return problem
    schema = problem.rows.require_schema()
    by_size = np.argsort(schema.vocabulary_sizes, kind="stable")
    codes = np.asarray(problem.rows)
    order = np.lexsort([codes[:, schema.first_columns[f]] for f in by_size])
    return problem.at(problem.rows[order], problem.target[order], problem.weight[order])


def table_of_blocks(problem: Problem, rows: Any, *, bits: int = 32) -> BlockTable:
    """Blocks at some rows, all 0.

    Parameters
    ----------
    problem : Problem
        What to fit.
    rows : FieldArray, csr_array or Design
        Encoded rows, or what was made of them.
    bits : {32, 64}, default=32
        Size of the numbers that the compiled engine keeps.

    Returns
    -------
    BlockTable
    """
    arguments = problem.spec.arguments
    if not isinstance(rows, Design):
        rows = make_design(rows, pair_slots=arguments.get("pair_slots", False))
    return make_block_table(
        rows,
        arguments["embedding_dim"],
        n_threads=problem.n_threads,
        device=problem.device,
        bits=bits,
    )


def read_module(module: FieldModel) -> NDArray[np.float64]:
    """Vectors and weights of a module of one output.

    Parameters
    ----------
    module : FieldModel
        A factorization machine.

    Returns
    -------
    ndarray of shape (table_size, D)
        Blocks [v | w].
    """
    state = {name: value.cpu().double().numpy() for name, value in module.state_dict().items()}
    return np.column_stack([state["embedding.weight"], state["linear.weight"]])


def write_module(
    module: FieldModel, tables: NDArray[np.float64], bias: NDArray[np.float64] | list[float]
) -> None:
    """Set the weights of a module.

    Parameters
    ----------
    module : FieldModel
        A factorization machine; with several outputs, C times as wide as the blocks: their vectors
        stand side by side, and each output sees its own.
    tables : ndarray of shape (C, table_size, D)
        Blocks [v | w] of each output.
    bias : sequence of float
        One per output.
    """
    n_outputs, _, D = tables.shape
    with torch.no_grad():
        module.bias.copy_(torch.as_tensor(np.asarray(bias)))
        linear = cast(torch.Tensor, module.linear.weight)
        linear.copy_(torch.from_numpy(tables[:, :, -1].T.copy()))
        vectors = tables[:, :, :-1].transpose(1, 0, 2).reshape(-1, n_outputs * (D - 1))
        module.embedding.weight.copy_(torch.from_numpy(vectors.copy()))
        if n_outputs > 1:
            own = np.repeat(np.eye(n_outputs), D - 1, axis=0)
            cast(torch.Tensor, module.pairwise_weight).copy_(torch.from_numpy(own))
