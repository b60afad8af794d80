"""Batches are the rows asked for, whatever holds them."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import sparse

from sklearn_fm import FieldArray, FieldSchema
from sklearn_fm.models import FM
from sklearn_fm.training.loading import make_rows

MIXED = FieldSchema.from_sizes([4, 1, 3])
N = 23


def field_array():
    rng = np.random.default_rng(0)
    codes = rng.integers(-1, 3, N), rng.integers(-1, 2, N) / 4, rng.integers(-1, 2, N)
    return FieldArray(np.column_stack(codes), MIXED)


def ragged():
    """Rows of 0 to 5 entries."""
    rng = np.random.default_rng(1)
    dense = rng.normal(size=(N, 8)) * (rng.random((N, 8)) < rng.random((N, 1)))
    dense[3] = 0
    return sparse.csr_array(dense)


KINDS = {
    "fields": (field_array, False),
    "padded": (ragged, False),
    "spread": (ragged, True),
}


@pytest.fixture(params=KINDS)
def rows(request):
    """Rows whose target is their own number."""
    make, positional = KINDS[request.param]
    weight = np.linspace(1, 2, N)
    return make_rows(make(), np.arange(N), weight, positional=positional, dtype=torch.float64)


def dense(indices, values, width):
    """Sum of the values of each index."""
    out = torch.zeros(len(indices), width, dtype=torch.float64)
    return out.index_put_(
        (torch.arange(len(indices)).unsqueeze(1), indices.long()), values, accumulate=True
    ).numpy()


@pytest.mark.parametrize("positional", [False, True], ids=["padded", "spread"])
@pytest.mark.parametrize(
    "selection", [slice(None), slice(3, 4), slice(5, 2), torch.tensor([7, 3, 3, 0])], ids=str
)
def test_sparse_rows_are_the_rows_of_the_matrix(positional, selection):
    X = ragged()
    rows = make_rows(X, positional=positional, dtype=torch.float64)
    indices, values = rows.features(selection)
    assert indices.dtype == torch.int32
    assert indices.shape == values.shape
    assert_array_equal(dense(indices, values, 8), X.toarray()[selection])
    if positional:
        assert_array_equal(indices, np.tile(np.arange(8), (len(indices), 1)))
    else:
        counts = np.diff(X.indptr)[selection]
        assert indices.shape[1] == (counts.max() if len(counts) else 0)
        assert (values[indices == 0][values[indices == 0] == 0] == 0).all()


def test_a_model_predicts_the_same_from_fields_and_from_their_sparse_form():
    X = field_array()
    model = FM(MIXED, 3).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
        by_field = model(*make_rows(X, dtype=torch.float64).features(slice(None)))
        for positional in (False, True):
            rows = make_rows(X.to_csr(), positional=positional, dtype=torch.float64)
            torch.testing.assert_close(model(*rows.features(slice(None))), by_field)


def test_field_array_rows_are_its_indices_and_values():
    X = field_array()
    rows = make_rows(X, np.arange(N), np.linspace(1, 2, N))
    batch = rows.take(torch.tensor([4, 4, 1]))
    assert_array_equal(batch.indices, X.indices[[4, 4, 1]])
    assert_array_equal(batch.values, X.values[[4, 4, 1]])
    assert_array_equal(batch.target, [4, 4, 1])
    assert_array_equal(batch.weight, np.linspace(1, 2, N).astype(np.float32)[[4, 4, 1]])


def test_targets_are_zero_and_weights_one_when_omitted():
    rows = make_rows(field_array())
    assert (rows.target == 0).all()
    assert (rows.weight == 1).all()
    assert rows.target.dtype == rows.weight.dtype == torch.float32


def test_shuffled_covers_each_row_once(rows):
    generator = torch.Generator().manual_seed(0)
    order = rows.shuffled(generator)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(N))
    assert order.tolist() != list(range(N))
    assert not torch.equal(rows.shuffled(generator), order)  # each epoch its own
    assert torch.equal(rows.shuffled(torch.Generator().manual_seed(0)), order)


@pytest.mark.parametrize("batch_size", [1, 5, N, 100])
def test_features_target_and_weight_move_together(rows, batch_size):
    order = rows.shuffled(torch.Generator().manual_seed(0))
    in_order = list(rows.in_order(1))
    for chosen in order.split(batch_size):
        batch = rows.take(chosen)
        assert torch.equal(batch.target.long(), chosen)
        truth = [in_order[row] for row in chosen]
        assert_array_equal(dense(*batch[:2], 8), np.vstack([dense(*row[:2], 8) for row in truth]))
        assert torch.equal(batch.weight, torch.cat([row.weight for row in truth]))


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_in_order_covers_each_row_in_order(rows, batch_size):
    seen = torch.cat([batch.target for batch in rows.in_order(batch_size)])
    assert seen.tolist() == list(range(N))


def test_a_subset_is_its_rows_and_so_is_a_subset_of_it(rows):
    picked = torch.tensor([9, 2, 17, 5])
    subset = rows.subset(picked)
    assert len(subset) == 4
    for part, truth in (
        (subset.take(slice(None)), picked),
        (subset.take(torch.tensor([3, 0])), picked[[3, 0]]),
        (subset.subset(torch.tensor([2, 1])).take(slice(None)), picked[[2, 1]]),
    ):
        assert part.target.tolist() == truth.tolist()
        expected = rows.take(truth)
        assert_array_equal(dense(*part[:2], 8), dense(*expected[:2], 8))
        assert torch.equal(part.weight, expected.weight)
    shuffled = subset.shuffled(torch.Generator().manual_seed(0))
    assert sorted(shuffled.tolist()) == [0, 1, 2, 3]  # positions in the subset
    assert sorted(subset.take(shuffled).target.tolist()) == [2, 5, 9, 17]


def test_a_subset_tells_where_its_rows_are_stored(rows):
    """Kernels read the storage itself; a subset of a subset leads all the way down."""
    wanted = torch.tensor([1, 0, 1])
    subset = rows.subset(torch.tensor([9, 2, 17, 5]))
    inner = subset.subset(torch.tensor([3, 0]))
    for part, truth in ((rows, [1, 0, 1]), (subset, [2, 9, 2]), (inner, [9, 5, 9])):
        assert part.storage is rows
        assert part.locate(wanted).tolist() == truth
        assert part.take(wanted).target.tolist() == truth


def test_no_batch_is_wider_than_width(rows):
    assert rows.take(slice(None)).indices.shape[1] == rows.width
    subset = rows.subset(torch.tensor([3, 1]))
    assert subset.take(slice(None)).indices.shape[1] <= subset.width


@pytest.mark.parametrize("make", [field_array, ragged])
def test_no_rows(make):
    rows = make_rows(make()[:0])
    assert len(rows) == 0
    assert list(rows.in_order(4)) == []
    assert len(rows.shuffled(torch.Generator())) == 0
    assert len(rows.take(slice(None)).target) == 0
