"""Weights of the linear term as a frame, by field and category.

Vectors, whose coordinates mean nothing one by one, are not shown.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

__all__ = ["linear_weights"]

_EMPTY = -2  # slot of a bag


def linear_weights(estimator: Any) -> pd.DataFrame:
    """Weights of the linear term by name; for draws from the posterior with standard deviations.

    Parameters
    ----------
    estimator : estimator
        Fitted, with a linear term.

    Returns
    -------
    DataFrame
        One row per index of the table and output. Columns ``"field"``; ``"category"``, as it stands
        in cells, the median of a bin, missing for what is unknown, the code where X came encoded or
        is hashed, the field's name for a number, and the number of a sparse matrix's column;
        ``"output"``, the class if there are three or more; ``"mean"``, the weight; and ``"std"``,
        its standard deviation in the posterior, NaN unless solver "gibbs" was used. The deviation
        of an unknown category is that of any category about which nothing is known.

    Raises
    ------
    ValueError
        If the model has no linear term.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_fm import FMRegressor
    >>> from sklearn_fm.inspection import linear_weights
    >>> X = pd.DataFrame({"user": list("abcd") * 9, "film": list("xxyyz") * 7 + ["x"]})
    >>> linear_weights(FMRegressor(random_state=0).fit(X, range(36))).columns.tolist()
    ['field', 'category', 'mean', 'std']
    """
    check_is_fitted(estimator)
    estimator = copy.copy(estimator)  # which another thread does not fit meanwhile
    module, schema = estimator.module_, estimator.schema_
    if not hasattr(module, "linear"):
        raise ValueError(f"{type(estimator).__name__} has no linear term, so it has no weights.")
    weights = module.linear.weight.detach().cpu().numpy().astype(np.float64)
    deviations = getattr(estimator, "linear_std_", None)
    if deviations is None:
        deviations = np.full(weights.shape, np.nan)
    n_outputs = weights.shape[1]
    parts, seen = [], set()
    for f, vocabulary in enumerate(schema.vocabularies):
        if vocabulary in seen:  # shared with a field before
            continue
        seen.add(vocabulary)
        rows = slice(schema.offsets[f], schema.offsets[f] + schema.vocabulary_sizes[f])
        part = pd.DataFrame({"field": schema.names[f], "category": _categories(estimator, f)})
        part = part.loc[np.repeat(np.arange(len(part)), n_outputs)]
        if n_outputs > 1:
            part["output"] = np.tile(estimator.classes_, len(part) // n_outputs)
        part["mean"], part["std"] = weights[rows].ravel(), deviations[rows].ravel()
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _categories(estimator: Any, f: int) -> NDArray[np.object_]:
    """What each row of a field's part of the table stands for."""
    schema, encoder = estimator.schema_, estimator.encoder_
    name, size = schema.names[f], schema.vocabulary_sizes[f]
    found = np.empty(size, dtype=object)
    if schema.kinds[f] == "numeric":
        found[:] = name
        return found
    if schema.kinds[f] == "columns":  # of which none is unknown
        found[:] = np.arange(size)
        return found
    found[1:] = np.arange(size - 1)
    if encoder is None:
        return found
    first, last = schema.first_columns[f], schema.first_columns[f + 1]
    codes = np.full((size - 1, last - first), _EMPTY)
    codes[:, 0] = np.arange(size - 1)
    try:
        cells = list(encoder.encoders_[name].inverse_transform(codes))
    except ValueError:  # hashed
        return found
    for code, cell in enumerate(cells):
        found[code + 1] = cell[0] if isinstance(cell, tuple) and cell else cell
    return found
