"""Vectors that a user brings along, as rows of the embedding table.

How rows are kept from moving in training is the business of ``training``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..schema import FieldSchema

__all__ = ["find_pretrained"]


def find_pretrained(
    pretrained: Mapping[str, Any],
    schema: FieldSchema,
    encoder: Any,
    embedding_dim: int,
    first: FieldSchema | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows of the table that have a vector, and those.

    Parameters
    ----------
    pretrained : mapping of str to DataFrame, mapping or ndarray
        By field: a DataFrame with a vector per row and categories as its index, a mapping of
        categories to vectors, or an array of shape (vocabulary_size, embedding_dim) whose
        row 0 is for unknown and row code + 1 for a code. A row with NaN gives no vector.
    schema : FieldSchema
        The fields.
    encoder : FieldEncoder or None
        What knows the codes of categories.
    embedding_dim : int
        Numbers of a vector.
    first : FieldSchema, default=None
        The fields before vocabularies grew, whose sizes arrays may have.

    Returns
    -------
    rows : ndarray of shape (n,)
        Indices.
    vectors : ndarray of shape (n, embedding_dim)

    Raises
    ------
    ValueError
        If there is no such field, vectors have another width or are infinite, no category
        has one, or a category has two.
    """
    rows, vectors = [np.zeros(0, dtype=np.int64)], [np.zeros((0, embedding_dim), np.float32)]
    for name, given in pretrained.items():
        if name not in schema.names or schema.kinds[schema.names.index(name)] in (
            "numeric",
            "columns",
        ):
            raise ValueError(
                f"pretrained= has vectors for {name!r}; expected a field with codes, of "
                f"{list(schema.names)}."
            )
        f = schema.names.index(name)
        sizes = {each.vocabulary_sizes[f] for each in (schema, first or schema)}
        if isinstance(given, np.ndarray):
            table = _check_array(name, given, sizes)
        else:
            table = _by_code(name, given, max(sizes), encoder)
        if len(given) and table.shape[1] != embedding_dim:
            raise ValueError(
                f"pretrained= has vectors of {table.shape[1]} numbers for {name!r}, but "
                f"embedding_dim={embedding_dim}. Set embedding_dim, or reduce them, by "
                "sklearn.decomposition.PCA for instance."
            )
        with np.errstate(over="ignore"):
            table = table.astype(np.float32)
        if np.isinf(table).any():
            raise ValueError(f"pretrained= has infinite numbers for {name!r}; expected finite.")
        known = np.flatnonzero(~np.isnan(table).any(axis=1))
        if not len(given) or not len(known):
            raise ValueError(
                f"pretrained= has no vector for any category of {name!r}. Its keys must be the "
                "categories as they stand in the column."
            )
        rows.append(schema.offsets[f] + known)
        vectors.append(table[known])
    return np.concatenate(rows), np.concatenate(vectors)


def _check_array(name: str, given: NDArray[Any], sizes: set[int]) -> NDArray[Any]:
    """Vectors by code as they are, or raise."""
    if given.ndim != 2 or len(given) not in sizes or given.dtype.kind not in "iuf":
        raise ValueError(
            f"pretrained= has an array of shape {given.shape} and dtype {given.dtype} for "
            f"{name!r}, expected numbers of shape ({max(sizes)}, embedding_dim): a row for unknown "
            "and one per code."
        )
    return given


def _by_code(name: str, given: Any, vocabulary_size: int, encoder: Any) -> NDArray[np.float64]:
    """Vectors in the order of the rows of a field, NaN where there is none."""
    if not isinstance(given, (Mapping, pd.DataFrame)):
        raise ValueError(
            f"pretrained= has a {type(given).__name__} for {name!r}, expected a DataFrame of "
            "pandas, a dict or an array."
        )
    if not hasattr(encoder, "encode_categories"):
        raise ValueError(
            f"pretrained= has vectors by category for {name!r}, but X was encoded before, so "
            "categories are not known here. Pass a DataFrame as X, or vectors by code as an array "
            f"of shape ({vocabulary_size}, embedding_dim)."
        )
    rows: Any
    if isinstance(given, pd.DataFrame):
        keys, rows = given.index.tolist(), given.to_numpy()
    else:
        keys, rows = list(given), list(given.values())
    try:
        numbers = np.array(rows, dtype=np.float64).reshape(len(keys), -1 if keys else 0)
    except (TypeError, ValueError):
        raise ValueError(
            f"pretrained= has vectors of different lengths for {name!r}, or other things than "
            "numbers; expected vectors of equal length."
        ) from None
    codes = encoder.encode_categories(name, np.fromiter(keys, dtype=object, count=len(keys)))
    found, counts = np.unique(codes[codes >= 0], return_counts=True)
    if len(found) and counts.max() > 1:
        twice = keys[int(np.argmax(codes == found[np.argmax(counts)]))]
        raise ValueError(f"pretrained= has several vectors for {twice!r} of {name!r}.")
    table = np.full((vocabulary_size, numbers.shape[1]), np.nan)
    table[codes[codes >= 0] + 1] = numbers[codes >= 0]
    return table
