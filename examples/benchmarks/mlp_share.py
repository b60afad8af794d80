"""What share of DeepFM's training is its MLP: the rest is what the library adds.

    python examples/benchmarks/mlp_share.py --hidden 128 128
    python examples/benchmarks/mlp_share.py --hidden 400 400 400

Times epochs of DeepFMClassifier on made-up clicks, and a bare torch MLP of the same widths on
ready embeddings: forward, backward to the embeddings too, and Adam's step, batch by batch. Both
take turns; medians.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from sklearn_fm import DeepFMClassifier, FieldArray, FieldSchema


def make_rows(n_rows: int, n_fields: int, table_size: int) -> tuple[FieldArray, np.ndarray]:
    """Zipf-distributed codes in fields of growing size, and a noisy target."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(4, table_size / 4, n_fields)
    sizes = np.ceil(sizes * table_size / sizes.sum()).astype(int) + 1
    codes = np.empty((n_rows, n_fields), dtype=np.int32)
    for slot, size in enumerate(sizes):
        mass = np.cumsum(np.arange(1, size) ** -1.05)
        codes[:, slot] = np.searchsorted(mass, rng.random(n_rows) * mass[-1])
    y = (rng.random(n_rows) < np.where(codes[:, 0] == 0, 0.4, 0.2)).astype(int)
    return FieldArray(codes, FieldSchema.from_sizes(sizes.tolist())), y


def mlp_seconds(n_rows: int, n_inputs: int, hidden: list[int], batch_size: int) -> float:
    """Seconds of an epoch of the MLP alone."""
    widths = [n_inputs, *hidden]
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    mlp = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
    optimizer = torch.optim.Adam(mlp.parameters())
    e = torch.randn(batch_size, n_inputs)
    target = (torch.rand(batch_size) < 0.25).float()
    start = time.perf_counter()
    for _ in range(-(-n_rows // batch_size)):
        x = e.requires_grad_()
        x.grad = None
        optimizer.zero_grad()
        raw = mlp(x)[:, 0]
        (nn.functional.softplus(raw) - target * raw).sum().backward()
        optimizer.step()
    return time.perf_counter() - start


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--fields", type=int, default=39)
    parser.add_argument("--table-size", type=int, default=1_200_000)
    parser.add_argument("--embedding-dim", type=int, default=16)
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 128])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    o = parser.parse_args()
    torch.set_num_threads(o.n_jobs)
    X, y = make_rows(o.rows, o.fields, o.table_size)
    model = DeepFMClassifier(
        embedding_dim=o.embedding_dim,
        hidden_layer_sizes=tuple(o.hidden),
        batch_size=o.batch_size,
        n_jobs=o.n_jobs,
        max_epochs=2,
        early_stopping=False,
        solver="auto",
        random_state=0,
    )
    model.fit(X[:10_000], y[:10_000])  # compiles
    alone, whole = [], []
    for _ in range(o.repeats):
        alone.append(mlp_seconds(o.rows, o.fields * o.embedding_dim, o.hidden, o.batch_size))
        whole.append(model.fit(X, y).history_["seconds"].min())
    rates = [o.rows / np.median(seconds) for seconds in (whole, alone)]
    share = np.median(np.array(alone) / np.array(whole))
    print("| hidden | DeepFM rows/s | MLP alone rows/s | share of the MLP |\n|---|---|---|---|")
    print(f"| {o.hidden} | {rates[0]:,.0f} | {rates[1]:,.0f} | {share:.0%} |")


if __name__ == "__main__":
    main()
