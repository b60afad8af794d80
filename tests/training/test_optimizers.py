"""Row rules: lazy penalties against stepping through the whole table, steps against torch's."""

import numpy as np
import pytest
import reference
import torch
from numpy.testing import assert_allclose

from sklearn_fm.training.optimizers import ROW_RULES, RowAdagrad, RowAdam, RowSGD

RULES = sorted(ROW_RULES)
N_ROWS, WIDTH = 7, 3


def some_table(seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(N_ROWS, WIDTH)))


def some_batches(n_batches=40, *, n_present=2, seed=1, n_frequent=0, n_never=1):
    """Gradients of batches of 8 out of 80 rows; a few rows of the table in each."""
    rng = np.random.default_rng(seed)
    batches = []
    for _ in range(n_batches):
        rare = rng.choice(np.arange(n_frequent, N_ROWS - n_never), n_present, replace=False)
        rows = [*range(n_frequent), *sorted(rare.tolist())]
        batches.append(({row: rng.normal(size=WIDTH) for row in rows}, 8, 0.1))
    return batches


def walk(rule, batches, learning_rate):
    for gradients, batch_size, share in batches:
        rows = torch.tensor(list(gradients))
        rule.update(
            rows,
            rule.fetch(rows),
            torch.from_numpy(np.array(list(gradients.values()))),
            learning_rate=learning_rate,
            batch_size=batch_size,
            share=share,
        )


def lazy(solver, batches, *, penalty, learning_rate, settle=True):
    table = some_table()
    rule = ROW_RULES[solver](table, penalty)
    walk(rule, batches, learning_rate)
    if settle:
        rule.settle()
    return table.numpy(), rule


# -- penalties ---------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [0.0, 3.0])
@pytest.mark.parametrize("solver", RULES)
def test_lazy_catch_up_is_shrinking_the_whole_table_at_each_step(solver, penalty):
    """Rows that occur now and then, and one that never does; exactly, in the exponential form."""
    batches = some_batches()
    table, _ = lazy(solver, batches, penalty=penalty, learning_rate=0.1)
    truth = reference.dense_steps(
        solver, some_table().numpy(), batches, penalty=penalty, learning_rate=0.1
    )
    assert_allclose(table, truth, rtol=1e-11, atol=1e-11)
    never = some_table().numpy()[-1]
    if penalty and solver != "adam":
        assert (np.abs(table[-1]) < 0.99 * np.abs(never)).all()
    else:
        assert_allclose(table[-1], never, rtol=0)


@pytest.mark.parametrize("solver", RULES)
def test_lazy_catch_up_is_a_gradient_step_of_the_penalty_to_second_order(solver):
    """Half the rate, a quarter of the difference from w -= rate * share * penalty * scale * w."""
    batches = some_batches(10)

    def difference(learning_rate):
        kwargs = {"penalty": 3.0, "learning_rate": learning_rate}
        table, _ = lazy(solver, batches, **kwargs)
        truth = reference.dense_steps(solver, some_table().numpy(), batches, euler=True, **kwargs)
        return np.abs(table - truth).max()

    assert difference(2e-3) > 1e-9
    assert 3.8 < difference(2e-3) / difference(1e-3) < 4.2


@pytest.mark.parametrize("solver", RULES)
def test_a_row_of_every_batch_owes_one_batch_only(solver):
    """Fetched rows are settled rows: what a later batch reads is what a reader would."""
    batches = some_batches(n_frequent=2)
    _, rule = lazy(solver, batches, penalty=3.0, learning_rate=0.1, settle=False)
    rows = torch.arange(N_ROWS)
    fetched = rule.fetch(rows)
    assert_allclose(rule.fetch(rows), fetched)  # reading pays nothing off
    owed = (rule.clock - rule.row_clock).flatten()
    assert_allclose(owed[:2], 0.1 * 0.1)
    assert_allclose(owed[-1], 0.1 * 0.1 * 40)
    rule.settle()
    assert torch.equal(rule.weight, fetched)


@pytest.mark.parametrize("solver", RULES)
def test_settling_twice_or_in_between_changes_nothing(solver):
    batches = some_batches()
    once, rule = lazy(solver, batches, penalty=3.0, learning_rate=0.1)
    before = once.copy()
    rule.settle()
    assert np.array_equal(once, before)
    table = some_table()
    rule = ROW_RULES[solver](table, 3.0)
    for start in range(0, 40, 7):
        walk(rule, batches[start : start + 7], 0.1)
        rule.settle()
    assert_allclose(table, once, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("solver", RULES)
def test_a_changing_learning_rate_is_caught_up_step_by_step(solver):
    """The clock adds up rates: what a row missed at 0.2 is not paid at today's 0.01."""
    batches = some_batches(20)
    table, truth = some_table(), some_table().numpy()
    rule = ROW_RULES[solver](table, 3.0)
    first, second = batches[:10], batches[10:]
    walk(rule, first, 0.2)
    walk(rule, second, 0.01)
    rule.settle()
    if solver == "sgd":  # without memory, so that the slow twin can change its rate
        for part, rate in ((first, 0.2), (second, 0.01)):
            truth = reference.dense_steps("sgd", truth, part, penalty=3.0, learning_rate=rate)
        assert_allclose(table, truth, rtol=1e-11, atol=1e-11)
    elif solver == "adagrad":
        never = some_table()[-1] * np.exp(-3.0 * 0.1 * (10 * 0.2 + 10 * 0.01) / np.sqrt(0.1))
        assert_allclose(table[-1], never, rtol=1e-12)


# -- steps -------------------------------------------------------------------------------


def torch_steps(make, batches, *, mean=False):
    """torch's optimizer on the whole table with the same gradients, zero where none."""
    parameter = torch.nn.Parameter(some_table())
    optimizer = make([parameter])
    for gradients, batch_size, _ in batches:
        parameter.grad = torch.zeros_like(parameter)
        for row, gradient in gradients.items():
            parameter.grad[row] = torch.from_numpy(gradient) / (batch_size if mean else 1)
        optimizer.step()
    return parameter.detach().numpy()


def test_adam_is_torch_adam_for_a_row_of_every_step():
    batches = some_batches(n_frequent=3)
    table, _ = lazy("adam", batches, penalty=0.0, learning_rate=0.05)
    truth = torch_steps(lambda p: torch.optim.Adam(p, lr=0.05), batches)
    assert_allclose(table[:3], truth[:3], rtol=1e-10, atol=1e-12)


def test_adam_of_a_rare_row_is_torch_adam_over_its_own_steps():
    """A row seen t times has the moments of Adam after t steps, whenever those were."""
    batches = some_batches(n_frequent=0)
    table, _ = lazy("adam", batches, penalty=0.0, learning_rate=0.05)
    for row in range(N_ROWS):
        own = [({row: g[row]}, 8, 0.1) for g, _, _ in batches if row in g]
        truth = torch_steps(lambda p: torch.optim.Adam(p, lr=0.05), own)
        assert_allclose(table[row], truth[row], rtol=1e-10, atol=1e-12)


def test_sgd_is_torch_sgd_on_the_mean_loss():
    batches = some_batches()
    table, _ = lazy("sgd", batches, penalty=0.0, learning_rate=0.05)
    truth = torch_steps(lambda p: torch.optim.SGD(p, lr=0.05), batches, mean=True)
    assert_allclose(table, truth, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("initial", [1.0, 0.25])
def test_adagrad_of_width_one_is_torch_adagrad(initial):
    """One accumulator per row is one per entry when a row has one entry."""
    batches = [({r: g[:1] for r, g in part.items()}, b, s) for part, b, s in some_batches()]
    table = some_table()[:, :1].clone()
    walk(RowAdagrad(table, 0.0, initial), batches, 0.05)
    parameter = torch.nn.Parameter(some_table()[:, :1].clone())
    optimizer = torch.optim.Adagrad([parameter], lr=0.05, initial_accumulator_value=initial)
    for gradients, _, _ in batches:
        parameter.grad = torch.zeros_like(parameter)
        for row, gradient in gradients.items():
            parameter.grad[row] = torch.from_numpy(gradient)
        optimizer.step()
    assert_allclose(table, parameter.detach(), rtol=1e-8)


@pytest.mark.parametrize("solver", RULES)
def test_rows_outside_the_batch_are_left_alone(solver):
    table = some_table()
    rule = ROW_RULES[solver](table, 3.0)
    walk(rule, [({2: np.ones(WIDTH)}, 8, 0.1)], 0.1)
    changed = (table != some_table()).any(dim=1)
    assert changed.nonzero().tolist() == [[2]]


def test_state_has_a_row_per_row_of_the_table():
    table = some_table()
    assert RowSGD(table, 0.0).state() == {}
    assert set(RowAdagrad(table, 0.0).state()) == {"accumulator"}
    assert set(RowAdam(table, 0.0).state()) == {"mean", "square", "count"}
    for solver in RULES:
        assert all(len(part) == N_ROWS for part in ROW_RULES[solver](table, 0.0).state().values())
