"""The weights of a factorization machine with the residuals of all rows, updated block by block.

Two engines do the same: compiled kernels on the CPU, and torch on any device. What residuals are
of, and which priors hold, is told from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kernels import HAS_KERNELS
from .contract import BlockTable, Moments, Step, few_entries, have_covariance
from .design import POOLED, Design

__all__ = ["CompiledBlockTable", "make_block_table"]

_CHUNK = 4096  # blocks
_REBUILD = 50  # sweeps until sums in float32 are made anew


class CompiledBlockTable:
    """A table of blocks run by compiled kernels.

    Parameters
    ----------
    design : Design
        Entries by index.
    embedding_dim : int
        Width of the vectors.
    n_threads : int, default=1
        Threads; results do not depend on it.
    bits : {32, 64}, default=32
        Size of the numbers that blocks and rows are kept in.
    """

    def __init__(
        self, design: Design, embedding_dim: int, n_threads: int = 1, *, bits: int = 32
    ) -> None:
        from ...kernels.blocks.layout import BlockLayout
        from ...kernels.blocks.rows import Blocks, State
        from ...kernels.blocks.sweep import room_sizes
        from ...kernels.threads import Workers

        self.design = design
        self.embedding_dim = embedding_dim
        self.few = few_entries(embedding_dim)
        self.layout = layout = BlockLayout(embedding_dim, bits)
        self.dtype = dtype = np.dtype(f"f{bits // 8}")
        K = layout.K
        self._places = np.append(np.arange(embedding_dim), K)  # of a block's numbers
        self._state = State(
            vectors=self._lines(design.n_blocks, K),
            weights=np.zeros(design.n_blocks, dtype),
            moves=self._lines(design.n_blocks, K),
            gaps=np.zeros((design.n_blocks, 2), dtype),
            sums=self._lines(design.n_rows, K),
            residuals=np.tile(np.array([0, 1], dtype), (design.n_rows, 1)),
            pooled=self._lines(design.n_pools, K),
        )
        self._target = np.zeros(design.n_rows)
        self._sweeps = 0
        self._workers = Workers(n_threads) if n_threads > 1 else None
        wide, own = room_sizes(layout)
        self._wide = np.zeros((n_threads, wide + 8))  # no line of two threads
        self._room = np.zeros((n_threads, own + 16), dtype)
        chunks, groups = design.chunks
        most = int(np.diff(groups, axis=1).max(initial=0))
        self._slots = np.zeros((most, layout.tall * layout.width))
        before, last = design.before
        block = np.append(design.block_of_entry, -1).astype(np.int32)
        multipliers = self._multipliers()
        after = [np.append(x, 0).astype(dtype)[:, None] for x in multipliers]

        def at(x: NDArray[Any], entries: NDArray[np.int32]) -> NDArray[Any]:
            return x[entries, 0] if len(x) > 1 else np.empty(0, dtype)

        self._blocks = Blocks(
            starts=design.starts,
            rows=design.rows,
            values=multipliers[0],
            linear_values=multipliers[1],
            before=block[before],
            values_before=at(after[0], before),
            linear_before=at(after[1], before),
            last=block[last],
            values_last=at(after[0], last),
            linear_last=at(after[1], last),
            pools=design.pools,
            prior_of=design.prior_of,
            groups=groups,
            pooled=np.array([g.meeting == POOLED for g in design.groups], dtype=bool),
            chunks=chunks,
        )
        self._noise = np.empty(0, dtype=np.float32)

    def _lines(self, n: int, width: int) -> NDArray[np.floating]:
        """Zeros, (n, width), that begin with a cache line."""
        room = np.zeros(n * width + 16, self.dtype)
        skip = -room.ctypes.data % 64 // self.dtype.itemsize
        return room[skip : skip + n * width].reshape(n, width)

    def _multipliers(self) -> list[NDArray[np.floating]]:
        """Of the vectors and weights of entries; both empty if all are 1."""
        values, linear = self.design.values, self.design.linear_values
        if not len(values) and not len(linear):
            return [np.empty(0, self.dtype)] * 2
        values = self.design.entry_values
        linear = linear if len(linear) else values
        return [values.astype(self.dtype), linear.astype(self.dtype)]

    def residuals(self, rows: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """Residuals of all rows, or of some."""
        found = self._state.residuals[:, 0]
        return (found if rows is None else found[rows]).astype(np.float64)

    def set_residuals(
        self, residuals: NDArray[np.float64], precision: NDArray[np.float64] | float
    ) -> None:
        """Move targets so that these are the residuals, and set their precisions."""
        from ...kernels.blocks.rows import retarget

        residuals = np.ascontiguousarray(residuals, dtype=np.float64)
        of_rows = np.ascontiguousarray(precision, dtype=np.float64).reshape(-1)
        retarget(self._state, self._target, residuals, of_rows)

    def read(self) -> NDArray[np.float64]:
        """Blocks [v | w]."""
        vectors = self._state.vectors[:, : self.embedding_dim]
        return np.column_stack([vectors, self._state.weights]).astype(np.float64)

    def write(self, blocks: NDArray[np.float64]) -> None:
        """Set all blocks; targets stay, residuals follow."""
        self._state.vectors[:, : self.embedding_dim] = blocks[:, :-1]
        self._state.weights[:] = blocks[:, -1]
        self._rebuild()

    def _rebuild(self) -> None:
        """Make sums and residuals anew from blocks and targets, which ends the drift of float32."""
        from ...kernels.blocks.rows import sum_up

        raw = np.zeros(self.design.n_rows)
        sum_up(self.layout, self._blocks, self._state, raw)
        self._state.residuals[:, 0] = self._target - raw
        self._sweeps = 0

    def moments(self, center: NDArray[np.float64]) -> Moments:
        """Sums over the blocks of each prior."""
        from ...kernels.blocks.gram import BATCH
        from ...kernels.blocks.together import add_moments

        layout, wide = self.layout, self.layout.wide
        chunks = self._chunks_of_priors
        placed = np.zeros((len(center), layout.width))
        placed[:, self._places] = center
        found = np.zeros((len(chunks), wide.tall, layout.width))

        def work(chunk: int, part: int) -> None:
            prior, first, last = chunks[chunk]
            room, out = np.zeros(BATCH * wide.row), found[chunk].reshape(-1)
            add_moments(layout, self._state, placed[prior], first, last, room, out)

        self._for_chunks(len(chunks), work)
        n_priors = len(self.design.prior_names)
        total = np.zeros((n_priors, wide.tall, layout.width))
        counts = np.zeros(n_priors)
        for (prior, first, last), part in zip(chunks, found, strict=True):
            total[prior] += part
            counts[prior] += last - first
        lower = np.tril(total[:, self._places[:, None], self._places])
        squares = lower + np.tril(lower, -1).transpose(0, 2, 1)
        return Moments(counts, center, total[:, layout.K + 1, self._places], squares)

    @cached_property
    def _chunks_of_priors(self) -> list[tuple[int, int, int]]:
        """Prior, first block, last block + 1: blocks of one prior, the same for any threads."""
        prior_of = self.design.prior_of
        cuts = np.flatnonzero(np.diff(prior_of)) + 1
        chunks = []
        for first, last in pairwise([0, *cuts.tolist(), len(prior_of)]):
            inner = [*range(first, last, _CHUNK), last]
            chunks += [(int(prior_of[a]), a, b) for a, b in pairwise(inner)]
        return chunks

    def draw_noise(self, rng: np.random.Generator) -> NDArray[np.floating]:
        """Standard normal numbers for an update."""
        from ...kernels.blocks.normals import CHUNK, fill_normals

        n, width = self.design.n_blocks, self.embedding_dim + 1 + self.few
        if not len(self._noise):
            self._noise = np.empty(n * width + -n * width % 16, dtype=np.float32)
        key, numbers = int(rng.integers(2**62)), self._noise
        n_chunks = -(-len(numbers) // CHUNK)

        def work(run: int, part: int) -> None:
            fill_normals(key, 16 * run, min(16 * run + 16, n_chunks), numbers)

        self._for_chunks(-(-n_chunks // 16), work)
        return numbers[: n * width].reshape(n, width)

    def _placed(self, numbers: NDArray[Any], width: int) -> NDArray[np.floating]:
        """Numbers of blocks in the last axis, in the kernels' places and type."""
        placed = np.zeros((*numbers.shape[:-1], width), self.dtype)
        placed[..., self._places] = numbers
        return placed

    def _priors(self, precision: NDArray[np.float64], shift: NDArray[np.float64]) -> Any:
        """Priors as the kernels take them."""
        from ...kernels.blocks.solve import Priors

        layout, k = self.layout, self.embedding_dim
        K, own = layout.K, layout.K + layout.lanes
        wide = self._wide_places(precision, shift)
        if not have_covariance(precision):
            nothing = np.zeros((0, K + 1, own), self.dtype)
            return Priors(*wide, np.zeros((0, own), self.dtype), nothing, nothing)
        sigma = np.linalg.inv(precision)
        first = np.append(k, np.arange(k))  # the weight comes first: its row has one number
        root = np.linalg.cholesky(sigma[:, first[:, None], first]).transpose(0, 2, 1)
        covariance = np.zeros((len(sigma), K + 1, own), self.dtype)
        covariance[:, self._places] = self._placed(sigma, own)
        roots = np.zeros_like(covariance)
        roots[:, : k + 1] = self._placed(root[:, :, np.argsort(first)], own)
        mean = (sigma @ shift[:, :, None])[:, :, 0]
        return Priors(*wide, self._placed(mean, own), covariance, roots)

    def _wide_places(
        self, precision: NDArray[np.float64], shift: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Precisions (n, D, D), their pivots and shifts (n, D) in the places of statistics."""
        K, W, at = self.layout.K, self.layout.width, self._places
        placed = np.zeros((len(precision), K + 1, W))
        placed[:, at[:, None], at] = precision
        least, moved = np.zeros((2, len(precision), W))
        if have_covariance(precision):
            root = np.linalg.cholesky(precision[:, ::-1, ::-1])
            least[:, at] = np.diagonal(root, axis1=1, axis2=2)[:, ::-1] ** 2
        moved[:, at] = shift
        return placed, least, moved

    def update(
        self,
        precision: NDArray[np.float64],
        shift: NDArray[np.float64],
        noise: NDArray[np.floating] | None,
        steps: Sequence[Step] = (),
    ) -> list[NDArray[np.float64]]:
        """Draw each block in turn, or move it to its mean."""
        from ...kernels.blocks.sweep import sweep
        from ...kernels.threads import make_sync, run_parts

        if self._sweeps == _REBUILD and self.layout.bits == 32:
            self._rebuild()
        self._sweeps += 1
        layout, k = self.layout, self.embedding_dim
        priors, together = self._priors(precision, shift), self._steps(steps)
        few = self.few if len(priors.mean) else 0
        noise = np.empty((0, 0)) if noise is None else noise
        noise = noise.astype(np.float32, copy=False)
        sync, n_parts = make_sync(), len(self._wide)

        def work(part: int) -> None:
            sweep(
                layout,
                k,
                few,
                self._blocks,
                self._state,
                priors,
                together,
                noise,
                self._wide,
                self._room,
                self._slots,
                part,
                n_parts,
                sync,
            )

        run_parts(self._workers, n_parts, work, sync)
        return [*together.taken[:, self._places]]

    def _steps(self, steps: Sequence[Step]) -> Any:
        """Steps as the kernels take them."""
        from ...kernels.blocks.together import Steps

        D, n = self.embedding_dim + 1, len(steps)
        of_group = np.full(len(self.design.groups), -1, dtype=np.int64)
        for i, step in enumerate(steps):
            of_group[self.design.loose_groups[step.prior]] = i
        precision = np.array([step.precision for step in steps]).reshape(n, D, D)
        shift = np.array([step.shift for step in steps]).reshape(n, D)
        noise = np.zeros((n, self.layout.K + 1))
        noise[:, :D] = np.array([step.noise for step in steps]).reshape(n, D)
        return Steps(
            of_group,
            np.array([step.stretches for step in steps], dtype=bool),
            *self._wide_places(precision, shift),
            noise,
            np.zeros((n, self.layout.width)),
        )

    def _for_chunks(self, n_chunks: int, work: Callable[[int, int], None]) -> None:
        from ...kernels.threads import make_sync, run_parts

        n_parts = min(len(self._wide), n_chunks)

        def work_part(part: int) -> None:
            for chunk in range(part, n_chunks, n_parts):
                work(chunk, part)

        run_parts(self._workers, n_parts, work_part, make_sync())


def make_block_table(
    design: Design,
    embedding_dim: int,
    *,
    n_threads: int = 1,
    device: Any = "cpu",
    bits: int = 32,
) -> BlockTable:
    """Return the table of blocks that suits a device.

    Parameters
    ----------
    design : Design
        Entries by index.
    embedding_dim : int
        Width of the vectors.
    n_threads : int, default=1
        Threads of the compiled engine.
    device : torch.device or str, default="cpu"
        Where to compute.
    bits : {32, 64}, default=32
        Size of the numbers that the compiled engine keeps blocks and rows in.

    Returns
    -------
    BlockTable
    """
    if HAS_KERNELS and str(device) == "cpu":
        return CompiledBlockTable(design, embedding_dim, n_threads, bits=bits)
    from .torch_table import TorchBlockTable

    return TorchBlockTable(design, embedding_dim, device)
