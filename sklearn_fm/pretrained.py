"""Vectors that a user brings along, as rows of the embedding table.

How rows are kept from moving in training is the business of ``training``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .schema import FieldSchema

__all__ = ["find_pretrained"]


def find_pretrained(
    pretrained: Mapping[str, Any], schema: FieldSchema, encoder: Any, embedding_dim: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows of the table that have a vector, and those.

    Parameters
    ----------
    pretrained : mapping of str to DataFrame, mapping or ndarray
        By field: a DataFrame with a vector per row and categories as its index, a mapping of
        categories to vectors, or an array of shape (vocabulary_size, embedding_dim) whose
        row 0 is for unknown and row code + 1 for a code. A row of NaN gives no vector.
    schema : FieldSchema
        The fields.
    encoder : FieldEncoder or None
        What knows the codes of categories.
    embedding_dim : int
        Numbers of a vector.

    Returns
    -------
    rows : ndarray of shape (n,)
        Indices.
    vectors : ndarray of shape (n, embedding_dim)

    Raises
    ------
    ValueError
        If there is no such field, vectors have another width or are infinite, or no category
        has one.
    """
    rows, vectors = [np.zeros(0, dtype=np.int64)], [np.zeros((0, embedding_dim), np.float32)]
    for name, given in pretrained.items():
        if name not in schema.names or schema.kinds[schema.names.index(name)] == "numeric":
            raise ValueError(
                f"pretrained= has vectors for {name!r}; expected a field with codes, of "
                f"{list(schema.names)}."
            )
        f = schema.names.index(name)
        table = _by_code(name, given, schema.vocabulary_sizes[f], encoder)
        if table.shape[1] != embedding_dim:
            raise ValueError(
                f"pretrained= has vectors of {table.shape[1]} numbers for {name!r}, but "
                f"embedding_dim={embedding_dim}. Set embedding_dim, or reduce them, by "
                "sklearn.decomposition.PCA for instance."
            )
        if np.isinf(table).any():
            raise ValueError(f"pretrained= has infinite numbers for {name!r}; expected finite.")
        known = np.flatnonzero(~np.isnan(table).any(axis=1))
        if not len(known):
            raise ValueError(
                f"pretrained= has no vector for any category of {name!r}. Its keys must be the "
                "categories as they stand in the column."
            )
        rows.append(schema.offsets[f] + known)
        vectors.append(table[known].astype(np.float32))
    return np.concatenate(rows), np.concatenate(vectors)


def _by_code(name: str, given: Any, vocabulary_size: int, encoder: Any) -> NDArray[np.float64]:
    """Vectors in the order of the rows of a field, NaN where there is none."""
    if isinstance(given, np.ndarray):
        if given.ndim != 2 or len(given) != vocabulary_size:
            raise ValueError(
                f"pretrained= has an array of shape {given.shape} for {name!r}, expected "
                f"({vocabulary_size}, embedding_dim): a row for unknown and one per code."
            )
        return given.astype(np.float64)
    if encoder is None:
        raise ValueError(
            f"pretrained= has vectors by category for {name!r}, but X was encoded before, so "
            "categories are not known here. Pass a DataFrame as X, or vectors by code as an array "
            f"of shape ({vocabulary_size}, embedding_dim)."
        )
    if isinstance(given, Mapping):
        keys, numbers = list(given), np.array(list(given.values()), dtype=np.float64)
    elif isinstance(given, pd.DataFrame):
        keys, numbers = given.index.tolist(), given.to_numpy(dtype=np.float64)
    else:
        raise ValueError(
            f"pretrained= has a {type(given).__name__} for {name!r}, expected a DataFrame, a "
            "dict or an array."
        )
    cells = np.empty(len(keys), dtype=object)
    cells[:] = keys
    codes = encoder.encode_categories(name, cells)
    table = np.full((vocabulary_size, numbers.shape[1] if numbers.ndim == 2 else 0), np.nan)
    table[codes[codes >= 0] + 1] = numbers[codes >= 0]
    return table
