"""Weights by name."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import sparse

from sklearn_fm import BagField, FieldEncoder, FMClassifier, FMRegressor
from sklearn_fm.inspection import linear_weights

rng = np.random.default_rng(0)
X = pd.DataFrame(
    {
        "user": rng.choice(list("abcd"), 200),
        "age": rng.normal(size=200),
        "tags": [("p", "q")[: 1 + i % 2] for i in range(200)],
    }
)
Y = (X.user == "a") * 2.0 + X.age + 0.1 * rng.normal(size=200)


def make_encoder():
    return FieldEncoder(numeric=["age"], scaler=None, fields={"tags": BagField()})


def test_weights_have_the_names_of_their_categories():
    model = FMRegressor(solver="gibbs", n_sweeps=60, encoder=make_encoder(), random_state=0)
    table = linear_weights(model.fit(X, Y))
    assert table.columns.tolist() == ["field", "category", "mean", "std"]
    assert table.field.tolist() == ["user"] * 5 + ["age"] + ["tags"] * 3
    assert table.category[1:].dropna().tolist() == [*table.category[1:5], "age", "p", "q"]
    assert sorted(table.category[1:5]) == list("abcd")
    by_name = table.set_index(["field", "category"])
    of_user = by_name.loc["user"]["mean"]
    others = of_user[list("bcd")].mean()
    assert (of_user["a"] - others) * model.target_scale_ == pytest.approx(
        2, abs=0.4
    )  # vectors have some
    found = by_name.loc[("age", "age")]
    assert abs(found["mean"] * model.target_scale_ - 1) < 0.3
    assert (table["std"] > 0).all()
    assert table["std"][0] > of_user.std() / 4  # nothing is known of it


def test_classes_have_weights_of_their_own():
    y = np.array(list("xyz"))[np.digitize(Y, [-0.5, 1])]
    model = FMClassifier(solver="gibbs", n_sweeps=20, encoder=make_encoder(), random_state=0)
    table = linear_weights(model.fit(X, y))
    assert table.output.tolist() == list("xyz") * 9
    weights = model.module_.linear.weight.detach().numpy()
    assert_allclose(table["mean"], weights.ravel())


def test_without_draws_or_an_encoder():
    codes = make_encoder().fit_transform(X)
    table = linear_weights(FMRegressor(solver="lbfgs", random_state=0).fit(codes, Y))
    assert table["std"].isna().all()
    assert table.category[1:5].tolist() == [0, 1, 2, 3]


def test_columns_of_a_sparse_matrix_have_their_numbers():
    matrix = sparse.random(200, 5, 0.5, random_state=0, format="csr")
    table = linear_weights(
        FMRegressor(solver="lbfgs", random_state=0).fit(matrix, matrix[:, [0]].toarray()[:, 0])
    )
    assert table.category.tolist() == [0, 1, 2, 3, 4]
    assert table["mean"].idxmax() == 0
