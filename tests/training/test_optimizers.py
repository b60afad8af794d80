"""Row rules: lazy penalties against stepping through the whole table, steps against torch's."""

import math

import numpy as np
import pytest
import reference
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import ElasticNet, Ridge

from sklearn_fm.models.contract import Table
from sklearn_fm.training.options import StepOptions
from sklearn_fm.training.rules import ROW_RULES, RowAdagrad, RowAdam, RowFTRL, RowSGD, make_rules

RULES = sorted(ROW_RULES)
SHRINKING = [name for name in RULES if name != "ftrl"]  # by a factor, caught up by a clock
N_ROWS, WIDTH, BATCH_SIZE = 7, 3, 8


def some_table(seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(N_ROWS, WIDTH)))


def some_batches(n_batches=40, *, n_present=2, seed=1, n_frequent=0, n_never=1, share=0.1):
    """Gradients of batches of 8 out of 80 rows; a few rows of the table in each."""
    rng = np.random.default_rng(seed)
    batches = []
    for _ in range(n_batches):
        rare = rng.choice(np.arange(n_frequent, N_ROWS - n_never), n_present, replace=False)
        rows = [*range(n_frequent), *sorted(rare.tolist())]
        batches.append(({row: rng.normal(size=WIDTH) for row in rows}, BATCH_SIZE, share))
    return batches


def make_rule(solver, table, penalty, *, learning_rate=0.1, l1=0.0):
    """The rule of a linear term."""
    options = StepOptions(solver, learning_rate=learning_rate, l1_linear=l1, l2_linear=penalty)
    what = {"linear": Table(table.shape[1], "linear")}
    return make_rules({"linear": table}, what, options, BATCH_SIZE)["linear"]


def walk(rule, batches, learning_rate):
    for gradients, _, share in batches:
        rows = torch.tensor(list(gradients))
        rule.update(
            rows,
            rule.fetch(rows),
            torch.from_numpy(np.array(list(gradients.values()))),
            learning_rate=learning_rate,
            share=share,
        )


def lazy(solver, batches, *, penalty, learning_rate, settle=True):
    table = some_table()
    rule = make_rule(solver, table, penalty, learning_rate=learning_rate)
    walk(rule, batches, learning_rate)
    if settle:
        rule.settle()
    return table.numpy(), rule


def dense_steps(solver, table, batches, *, learning_rate, **options):
    """Step through the *whole* table at each batch, loss and penalty alike."""
    if solver == "adam":
        return adam_dense_steps(
            table, batches, learning_rates=[learning_rate] * len(batches), **options
        )
    return reference.dense_steps(solver, table, batches, learning_rate=learning_rate, **options)


def adam_dense_steps(table, batches, *, penalty, learning_rates, euler=False):
    """Adam by entry, but a row shrinks at one rate: that of its root mean square gradient."""
    table = [[float(x) for x in row] for row in table]
    mean = [[0.0] * WIDTH for _ in table]
    square = [[0.0] * WIDTH for _ in table]
    count = [0] * len(table)
    for (gradients, _, share), learning_rate in zip(batches, learning_rates, strict=True):
        for row, gradient in gradients.items():
            count[row] += 1
            for j, g in enumerate(gradient):
                mean[row][j] = 0.9 * mean[row][j] + 0.1 * g
                square[row][j] = 0.999 * square[row][j] + 0.001 * g * g
                root = math.sqrt(square[row][j] / (1 - 0.999 ** count[row]))
                step = mean[row][j] / (1 - 0.9 ** count[row]) / (root + 1e-8)
                table[row][j] -= learning_rate * step
        for row, vector in enumerate(table):
            if count[row] == 0:
                continue  # a row that Adam has never seen stays as it is
            corrected = [s / (1 - 0.999 ** count[row]) for s in square[row]]
            x = learning_rate * share * penalty / (math.sqrt(sum(corrected) / WIDTH) + 1e-8)
            for j in range(WIDTH):
                vector[j] *= 1 - x if euler else math.exp(-x)
    return np.array(table)


# -- penalties ---------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [0.0, 3.0])
@pytest.mark.parametrize("solver", SHRINKING)
def test_lazy_catch_up_is_shrinking_the_whole_table_at_each_step(solver, penalty):
    """Rows that occur now and then, and one that never does; exactly, in the exponential form."""
    batches = some_batches()
    table, _ = lazy(solver, batches, penalty=penalty, learning_rate=0.1)
    truth = dense_steps(solver, some_table().numpy(), batches, penalty=penalty, learning_rate=0.1)
    assert_allclose(table, truth, rtol=1e-11, atol=1e-11)
    never = some_table().numpy()[-1]
    if penalty and solver != "adam":
        assert (np.abs(table[-1]) < 0.99 * np.abs(never)).all()
    else:
        assert_allclose(table[-1], never, rtol=0)


@pytest.mark.parametrize("solver", SHRINKING)
def test_lazy_catch_up_is_a_gradient_step_of_the_penalty_to_second_order(solver):
    """Half the rate, a quarter of the difference from w -= rate * share * penalty * scale * w."""
    batches = some_batches(10)

    def difference(learning_rate):
        kwargs = {"penalty": 3.0, "learning_rate": learning_rate}
        table, _ = lazy(solver, batches, **kwargs)
        truth = dense_steps(solver, some_table().numpy(), batches, euler=True, **kwargs)
        return np.abs(table - truth).max()

    assert difference(2e-3) > 1e-9
    assert 3.8 < difference(2e-3) / difference(1e-3) < 4.2


@pytest.mark.parametrize("solver", RULES)
def test_fetched_rows_are_settled_rows(solver):
    """What a later batch reads is what a reader would."""
    _, rule = lazy(solver, some_batches(), penalty=3.0, learning_rate=0.1, settle=False)
    rows = torch.arange(N_ROWS)
    fetched = rule.fetch(rows)
    assert not torch.equal(rule.weight, fetched)
    assert torch.equal(rule.fetch(rows), fetched)  # reading pays nothing off
    rule.settle()
    assert torch.equal(rule.weight, fetched)


@pytest.mark.parametrize("solver", SHRINKING)
def test_a_row_of_every_batch_owes_one_batch_only(solver):
    batches = some_batches(n_frequent=2)
    _, rule = lazy(solver, batches, penalty=3.0, learning_rate=0.1, settle=False)
    owed = (rule.clock - rule.row_clock).flatten()
    assert_allclose(owed[:2], 0.1 * 0.1)
    assert_allclose(owed[-1], 0.1 * 0.1 * 40)


@pytest.mark.parametrize("solver", RULES)
def test_settling_twice_or_in_between_changes_nothing(solver):
    batches = some_batches()
    once, rule = lazy(solver, batches, penalty=3.0, learning_rate=0.1)
    before = once.copy()
    rule.settle()
    assert np.array_equal(once, before)
    table = some_table()
    rule = make_rule(solver, table, 3.0)
    for start in range(0, 40, 7):
        walk(rule, batches[start : start + 7], 0.1)
        rule.settle()
    assert_allclose(table, once, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("solver", SHRINKING)
def test_a_changing_learning_rate_is_caught_up_step_by_step(solver):
    """The clock adds up rates: what a row missed at 0.2 is not paid at today's 0.01."""
    batches = some_batches(20)
    table, truth = some_table(), some_table().numpy()
    rule = make_rule(solver, table, 3.0)
    first, second = batches[:10], batches[10:]
    walk(rule, first, 0.2)
    walk(rule, second, 0.01)
    rule.settle()
    if solver == "sgd":  # without memory, so that the slow twin can change its rate
        for part, rate in ((first, 0.2), (second, 0.01)):
            truth = reference.dense_steps("sgd", truth, part, penalty=3.0, learning_rate=rate)
        assert_allclose(table, truth, rtol=1e-11, atol=1e-11)
    elif solver == "adam":
        rates = [0.2] * 10 + [0.01] * 10
        truth = adam_dense_steps(truth, batches, penalty=3.0, learning_rates=rates)
        assert_allclose(table, truth, rtol=1e-11, atol=1e-11)
    else:
        never = some_table()[-1] * np.exp(-3.0 * 0.1 * (10 * 0.2 + 10 * 0.01) / np.sqrt(0.1))
        assert_allclose(table[-1], never, rtol=1e-12)


@pytest.mark.parametrize("solver", SHRINKING)
def test_a_row_outside_the_batch_keeps_its_direction(solver):
    """One factor for all its entries, of Adam too."""
    _, rule = lazy(solver, some_batches(), penalty=3.0, learning_rate=0.1, settle=False)
    before = rule.weight.clone()
    rule.settle()
    factor = rule.weight / before
    assert_allclose(factor, factor[:, :1].expand(-1, WIDTH), rtol=1e-12)
    assert (factor[:-1] < 1).all()


def test_scale_of_adam_is_that_of_its_root_mean_square_gradient():
    table = some_table()
    rule = RowAdam(table, 3.0)
    assert_array_equal(rule.scale(slice(None)), np.zeros((N_ROWS, 1)))  # nothing seen yet
    gradient = np.array([3.0, -4.0, 12.0])
    walk(rule, [({2: gradient}, BATCH_SIZE, 0.1)] * 5, 0.1)
    scale = rule.scale(torch.tensor([2, 3]))
    assert_allclose(scale, [[1 / np.sqrt((gradient**2).mean())], [0]], rtol=1e-8)


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
    assert_allclose(table, torch_adagrad(batches, initial, width=1), rtol=1e-8)


def torch_adagrad(batches, initial, *, width=WIDTH):
    parameter = torch.nn.Parameter(some_table()[:, :width].clone())
    optimizer = torch.optim.Adagrad([parameter], lr=0.05, initial_accumulator_value=initial)
    for gradients, _, _ in batches:
        parameter.grad = torch.zeros_like(parameter)
        for row, gradient in gradients.items():
            parameter.grad[row] = torch.from_numpy(gradient)
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("penalty", [0.0, 3.0])
def test_a_stretch_with_its_own_accumulator_is_a_table_of_its_own(penalty):
    """Three vectors side by side are stepped and shrunk as three tables of one vector."""
    whole = torch.cat([some_table(seed) for seed in range(3)], dim=1)
    parts = [some_table(seed) for seed in range(3)]
    together = RowAdagrad(whole, penalty, 0.25, accumulators=3)
    alone = [RowAdagrad(part, penalty, 0.25) for part in parts]
    batches = [some_batches(seed=1, n_never=1)]
    for seed in (2, 3):  # the same rows, other gradients
        rng = np.random.default_rng(seed)
        batches.append([({r: rng.normal(size=WIDTH) for r in g}, b, s) for g, b, s in batches[0]])
    joined = [
        ({r: np.concatenate([part[0][r] for part in same]) for r in same[0][0]}, *same[0][1:])
        for same in zip(*batches, strict=True)
    ]
    walk(together, joined, 0.1)
    together.settle()
    for rule, own in zip(alone, batches, strict=True):
        walk(rule, own, 0.1)
        rule.settle()
    assert_allclose(whole, torch.cat(parts, dim=1), rtol=1e-12)
    accumulators = torch.cat([rule.accumulator for rule in alone], dim=1)
    assert_allclose(together.state()["accumulator"], accumulators, rtol=1e-12)


@pytest.mark.parametrize("solver", ["adagrad", "ftrl"])
def test_a_table_says_its_prior_and_its_accumulators(solver):
    """An embedding table may have the prior of the linear term."""
    what = {"embedding": Table(WIDTH, "linear", accumulators=3)}
    options = StepOptions(solver, l2_linear=3.0, l2_embedding=5.0)
    rule = make_rules({"embedding": some_table()}, what, options, 8)["embedding"]
    assert rule.penalty == 3
    assert rule.state()["accumulator"].shape == (N_ROWS, 3)


@pytest.mark.parametrize("solver", RULES)
def test_rows_outside_the_batch_are_left_alone(solver):
    table = some_table()
    rule = make_rule(solver, table, 3.0)
    walk(rule, [({2: np.ones(WIDTH)}, BATCH_SIZE, 0.1)], 0.1)
    changed = (table != some_table()).any(dim=1)
    assert changed.nonzero().tolist() == [[2]]


# -- FTRL-proximal -----------------------------------------------------------------------


@pytest.mark.parametrize("initial", [1.0, 0.25])
def test_ftrl_without_penalties_is_adagrad_of_each_weight(initial):
    batches = some_batches()
    table = some_table()
    rule = RowFTRL(table, 0.0, 0.0, initial, learning_rate=0.05)
    walk(rule, batches, 0.05)
    rule.settle()
    assert_allclose(table, torch_adagrad(batches, initial), rtol=1e-8)
    narrow = [({r: g[:1] for r, g in part.items()}, b, s) for part, b, s in batches]
    own = some_table()[:, :1].clone()
    walk(RowAdagrad(own, 0.0, initial), narrow, 0.05)
    assert_allclose(table[:, :1], own, rtol=1e-10)


def test_ftrl_starts_from_the_table():
    table = some_table()
    rule = RowFTRL(table, 3.0, 2.0, 0.25, learning_rate=0.05)
    rule.settle()
    assert_allclose(table, some_table(), rtol=1e-14)


@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (2.0, 0.0), (0.0, 3.0), (2.0, 3.0)])
def test_ftrl_minimizes_the_regularized_sum_of_all_losses_so_far(l1, l2):
    """Its definition, for every row after every batch, whenever the row occurred last.

    sum_s g_s w + sum_s sigma_s / 2 (w - w_s)^2 + l1 t |w| + l2 t / 2 w^2, with sigma_s the
    growth of sqrt(n) / rate, has a subgradient of 0 at w.
    """
    rate, share = 0.1, 0.125  # the penalties paid are exact in single precision
    table = some_table()
    rule = make_rule("ftrl", table, l2, learning_rate=rate, l1=l1)
    squares = np.full((N_ROWS, WIDTH), 0.1)
    slope = -some_table().numpy() * np.sqrt(squares) / rate
    n_zeros = 0
    for passed, batch in enumerate(some_batches(80, share=share), 1):
        before = rule.fetch(slice(None)).numpy()
        for row, gradient in batch[0].items():
            sigma = -np.sqrt(squares[row]) / rate
            squares[row] += gradient**2
            sigma += np.sqrt(squares[row]) / rate
            slope[row] += gradient - sigma * before[row]
        walk(rule, [batch], rate)
        t = passed * share
        now = rule.fetch(slice(None)).numpy()
        smooth = slope + (np.sqrt(squares) / rate + l2 * t) * now
        zero = now == 0
        assert_allclose(smooth[~zero], -l1 * t * np.sign(now[~zero]), rtol=1e-9, atol=1e-9)
        assert (np.abs(smooth[zero]) <= l1 * t + 1e-9).all()
        assert_array_equal(zero, np.abs(rule.sums.numpy()) <= l1 * t)
        n_zeros += zero.sum()
    assert (n_zeros > 0) == (l1 > 0)
    assert n_zeros < 80 * table.numel()
    rule.settle()
    assert_array_equal(table, now)


@pytest.mark.parametrize("batch_size", [48, 8])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (12.0, 0.0), (0.0, 8.0), (12.0, 8.0)])
def test_ftrl_ends_at_the_elastic_net(l1, l2, batch_size):
    """|Xw - y|^2 / 2 + l1 |w| + l2 / 2 |w|^2, however long the training and however cut."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(48, 6))
    y = X @ [2, -1, 0, 0, 0.5, 0] + 0.3 * rng.normal(size=48)
    if l1:
        truth = ElasticNet(
            (l1 + l2) / 48, l1_ratio=l1 / (l1 + l2), fit_intercept=False, tol=1e-12, max_iter=10**5
        )
    else:
        truth = Ridge(l2, fit_intercept=False)
    truth.fit(X, y)
    table = torch.from_numpy(rng.normal(size=(6, 1)))
    rule = make_rule("ftrl", table, l2, learning_rate=0.5, l1=l1)
    rows = torch.arange(6)
    for _ in range(200):
        for chosen in np.split(rng.permutation(48), 48 // batch_size):
            w = rule.fetch(rows)
            gradient = X[chosen].T @ (X[chosen] @ w.numpy() - y[chosen, None])
            rule.update(
                rows, w, torch.from_numpy(gradient), learning_rate=0.5, share=batch_size / 48
            )
        rule.settle()
    w = table.numpy()[:, 0]
    # Mini-batches leave noise that fades with the root of their number.
    assert_allclose(w, truth.coef_, atol=1e-3 if batch_size == 48 else 2e-2)
    assert_array_equal(w == 0, truth.coef_ == 0)
    assert (w == 0).sum() == (3 if l1 else 0)


# -- rules of a model --------------------------------------------------------------------


def test_state_has_a_row_per_row_of_the_table():
    """Beside the penalties that a table under FTRL has paid."""
    table = some_table()
    assert RowSGD(table, 0.0).state() == {}
    assert set(RowAdagrad(table, 0.0).state()) == {"accumulator"}
    assert set(RowAdam(table, 0.0).state()) == {"mean", "square", "count"}
    assert set(RowFTRL(table, 0.0).state()) == {"sums", "squares", "paid"}
    for solver in RULES:
        state = ROW_RULES[solver](table, 0.0).state()
        assert all(len(part) == N_ROWS for name, part in state.items() if name != "paid")


@pytest.mark.parametrize("solver", RULES)
def test_a_rule_goes_on_from_its_state(solver):
    batches = some_batches()
    table = some_table()
    rule = make_rule(solver, table, 3.0, l1=0.5)
    walk(rule, batches[:20], 0.1)
    rule.settle()
    copy = table.clone()
    other = make_rule(solver, copy, 3.0, l1=0.5)
    for name, value in other.state().items():
        value.copy_(rule.state()[name])
    for each in (rule, other):
        walk(each, batches[20:], 0.1)
        each.settle()
    assert torch.equal(copy, table)
    assert not torch.equal(copy, some_table())


@pytest.mark.parametrize("solver", RULES)
def test_rules_of_a_model(solver):
    """Each table its own prior, the bias none; embeddings under FTRL have Adagrad's."""
    tables = {"linear": some_table()[:, :1], "embedding": some_table(), "bias": some_table()[:1]}
    options = StepOptions(
        solver,
        l1_linear=2.0,
        l2_linear=3.0,
        l2_embedding=5.0,
        initial_accumulator=0.25,
        learning_rate=0.2,
    )
    what = {"linear": Table(1, "linear"), "embedding": Table(WIDTH, "embedding")}
    rules = make_rules(tables, what, options, 8)
    kinds = dict.fromkeys(tables, ROW_RULES[solver])
    if solver == "ftrl":
        kinds["embedding"] = RowAdagrad
    assert {name: type(rule) for name, rule in rules.items()} == kinds
    assert all(rules[name].weight is table for name, table in tables.items())
    penalties = {name: rule.penalty for name, rule in rules.items()}
    assert penalties == {"linear": 3, "embedding": 5, "bias": 0}
    for rule in rules.values():
        if isinstance(rule, RowSGD):
            assert rule.batch_size == 8
        if isinstance(rule, RowAdagrad):
            assert (rule.accumulator == 0.25).all()
        if isinstance(rule, RowFTRL):
            assert (rule.squares == 0.25).all()
            assert rule.rate == 0.2
    if solver == "ftrl":
        assert (rules["linear"].l1, rules["bias"].l1) == (2, 0)
