"""Which solver fits a problem: what "auto" means, what each refuses, and that it says why."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sklearn_fm import DeepFMRegressor, FieldArray, FieldSchema, FMRegressor
from sklearn_fm.models import DCN, FM, DeepFM
from sklearn_fm.solvers.choice import SOLVERS, choose
from sklearn_fm.solvers.gibbs.suits import estimate_seconds
from sklearn_fm.solvers.problem import ModelSpec, Options, Problem, Task, Watch

SCHEMA = FieldSchema.from_sizes([30, 20])
NUMBERS, CLASSES = Task("numbers"), Task("classes", n_classes=2)
LEVELS = Task("levels", levels=np.array([1.0, 2.0]))
NOISY = replace(NUMBERS, noise_field=("x0",))


def make_problem(n_rows=300, task=NUMBERS, model=FM, own=None, schema=SCHEMA, **options):
    rows = FieldArray(np.zeros((n_rows, schema.n_slots), dtype=np.int64), schema)
    arguments = {"embedding_dim": 8, **(own or {})}
    return Problem(
        rows=rows,
        target=np.zeros(n_rows),
        weight=np.ones(n_rows),
        task=task,
        spec=ModelSpec(model, schema, task.n_outputs, arguments),
        options=Options(**options),
        rng=np.random.RandomState(0),
    )


MANY = FieldSchema.from_sizes([200_000, 20])


@pytest.mark.parametrize(
    ("problem", "solver", "words"),
    [
        (make_problem(), "lbfgs", "300 rows, 600 entries, 400 embedding weights are few"),
        (make_problem(solver="sgd"), "sgd", "solver='sgd' was asked for"),
        (make_problem(gradient_clip=1.0), "adagrad", "gradient_clip calls for mini-batches"),
        (make_problem(learning_rate=0.1), "adagrad", "learning_rate calls for mini-batches"),
        (make_problem(early_stopping=True), "adagrad", "early_stopping=True calls for"),
        (make_problem(callbacks=[1]), "adagrad", "callbacks calls for mini-batches"),
        (replace(make_problem(), one_pass=True), "adagrad", "partial_fit calls for mini-batches"),
        (make_problem(model=DeepFM, own={"dropout": 0.1}), "adagrad", "dropout or batch_norm"),
        (replace(make_problem(), device=torch.device("cuda")), "adagrad", "device 'cuda'"),
        (make_problem(l1_linear=0.1), "ftrl", "l1_linear asks for weights of exactly 0"),
        (make_problem(6000), "adagrad", "6,000 rows are more than 5,000"),
        (make_problem(schema=MANY), "adagrad", "1,600,160 embedding weights are more than"),
        (make_problem(task=LEVELS), "gibbs", "loss='ordinal' needs draws from the posterior"),
        (
            make_problem(task=replace(NUMBERS, noise_field=("x0",))),
            "gibbs",
            "noise_field needs draws",
        ),
    ],
)
def test_auto_and_its_reason(problem, solver, words):
    choice = choose(problem)
    assert choice.solver is SOLVERS[solver]
    assert words in choice.reason


WATCH = Watch(make_problem().rows, np.zeros(300), np.ones(300))
DEEP = {"model": DeepFM, "own": {"hidden_layer_sizes": (4,)}}


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (make_problem(solver="adam", l1_linear=1.0), "needs solver='ftrl'"),
        (make_problem(solver="lbfgs", l1_linear=1.0), "needs solver='ftrl'"),
        (make_problem(solver="ftrl", learning_rate_schedule="one_cycle"), "must be 'constant'"),
        (make_problem(solver="lbfgs", callbacks=[1]), "has no partial_fit, skorch callbacks"),
        (make_problem(task=CLASSES, solver="als"), "so it fits no classes"),
        (make_problem(solver="als", callbacks=[1]), "takes no callbacks of skorch"),
        (make_problem(solver="gibbs", early_stopping=True), "needs no early stopping"),
        (make_problem(solver="gibbs", l2_linear=1.0), "both as numbers, or both as 'auto'"),
        (make_problem(solver="gibbs", l2_linear=0.0, l2_embedding=1.0), "above 0, or 'auto'"),
        (replace(make_problem(solver="gibbs"), watch=WATCH), "so it takes no eval_set"),
        (make_problem(solver="als", **DEEP), "fits no hidden layers"),
        (make_problem(task=LEVELS, solver="adagrad"), "need solver='gibbs'"),
        (make_problem(task=LEVELS, callbacks=[1]), "(which loss or noise_field ask for)"),
        (make_problem(task=replace(LEVELS, noise_field=("x0",))), "so it takes no noise_field"),
        (make_problem(model=DCN, l2_linear=1.0), "DCN has no linear term for l2_linear"),
        (make_problem(model=DCN, l1_linear=1.0), "DCN has no linear term for l1_linear"),
    ],
)
def test_what_is_refused_and_why(problem, words):
    with pytest.raises(ValueError, match=r"solver=|linear|loss=") as error:
        choose(problem)
    assert words in str(error.value)


def test_the_user_can_read_the_reason():
    X = np.array([["a", "x"], ["b", "x"], ["a", "y"]] * 9, dtype=object)
    model = FMRegressor(random_state=0).fit(X, np.arange(27.0))
    assert model.solver_ == "gibbs"
    assert "draws from the posterior predict best" in model.solver_reason_
    assert "on one core" in model.solver_reason_
    model = FMRegressor(l2_linear=1.0, random_state=0).fit(X, np.arange(27.0))
    assert model.solver_ == "lbfgs"
    assert "27 rows" in model.solver_reason_
    assert "no draws, as l2_linear=1.0 is for a descent" in model.solver_reason_
    assert DeepFMRegressor(max_epochs=1).fit(X, np.arange(27.0)).solver_ == "adagrad"


# -- draws -----------------------------------------------------------------------------


def drawn(n_rows=300, **changes):
    """A problem of somebody who can hold draws."""
    of_problem = {"watch", "find_pretrained", "device", "device_is_free", "weight"} & set(changes)
    fields = {name: changes.pop(name) for name in of_problem}
    return replace(make_problem(n_rows, **changes), takes_draws=True, **fields)


SHARED = FieldSchema(("a", "b"), ("categorical",) * 2, (30, 30), (1, 1), vocabularies=("v", "v"))
GPU = torch.device("cuda")


@pytest.mark.parametrize(
    ("problem", "solver", "words"),
    [
        (drawn(), "gibbs", "predict best, and take about"),
        (drawn(task=CLASSES), "gibbs", "predict best"),
        (drawn(weight=np.full(300, 1.5)), "gibbs", "predict best"),
        (drawn(task=CLASSES, weight=np.full(300, 1.5)), "lbfgs", "no draws, as weights of"),
        (drawn(task=CLASSES, weight=np.full(300, 2.0)), "gibbs", "predict best"),
        (drawn(100_000), "gibbs", "predict best"),
        (drawn(early_stopping=False), "gibbs", "predict best"),
        (drawn(2_000_000, own={"embedding_dim": 32}), "adagrad", "as draws would take about 46 s"),
        (drawn(own={"embedding_dim": 2_000}), "lbfgs", "no draws, as draws would take about"),
        (drawn(n_sweeps=10**6), "lbfgs", "no draws, as draws would take about"),
        (drawn(schema=FieldSchema.from_sizes([10**10, 3])), "adagrad", "would not fit into memory"),
        (drawn(learning_rate=0.1), "adagrad", "learning_rate calls for mini-batches"),
        (drawn(callbacks=[1]), "adagrad", "callbacks calls for mini-batches"),
        (drawn(l1_linear=1.0), "ftrl", "exactly 0"),
        (drawn(l2_embedding=1.0), "lbfgs", "no draws, as l2_embedding=1.0 is for a descent"),
        (drawn(batch_size=64), "lbfgs", "no draws, as batch_size=64 is for a descent"),
        (drawn(tol=1e-6), "lbfgs", "no draws, as tol=1e-06 is for a descent"),
        (drawn(watch=WATCH), "lbfgs", "no draws, as rows to watch are for a descent"),
        (drawn(find_pretrained=lambda: None), "lbfgs", "pretrained embeddings are for a descent"),
        (drawn(**DEEP), "lbfgs", "few enough to take all rows at once"),
        (drawn(schema=SHARED), "lbfgs", "not linear in the weights of each category"),
        (drawn(device=GPU), "adagrad", "device 'cuda' calls for mini-batches"),
        (drawn(device=GPU, device_is_free=True), "gibbs", "predict best"),
        (drawn(device=GPU, device_is_free=True, tol=1.0), "adagrad", "no draws, as tol=1.0"),
        (replace(drawn(), one_pass=True), "adagrad", "partial_fit calls for mini-batches"),
    ],
)
def test_when_auto_takes_draws(problem, solver, words):
    choice = choose(problem)
    assert choice.solver is SOLVERS[solver]
    assert words in choice.reason


def test_what_an_estimate_counts():
    """Rows, slots, categories, width, outputs, sweeps: more of any takes longer."""
    least = estimate_seconds(drawn())
    three = Task("classes", n_classes=3)
    more = [
        drawn(600),
        drawn(own={"embedding_dim": 16}),
        drawn(schema=FieldSchema.from_sizes([30, 20, 10])),
        drawn(schema=FieldSchema.from_sizes([300, 20])),
        drawn(task=three),
        drawn(n_sweeps=300),
    ]
    assert all(estimate_seconds(problem) > least for problem in more)
    thousand = np.full(300, 1000.0)
    heavy = replace(drawn(task=CLASSES), weight=thousand)  # rows of latent targets, up to 100 each
    assert estimate_seconds(heavy) > 1.5 * estimate_seconds(drawn(task=CLASSES))
    assert estimate_seconds(replace(drawn(), weight=thousand)) == least
    widths = (drawn(own={"embedding_dim": k}) for k in (256, 512))
    narrow, wide = map(estimate_seconds, widths)
    assert wide > 6 * narrow  # covariances of all vectors take K^3
    by_number = replace(drawn(n_sweeps=500), n_threads=2)
    assert estimate_seconds(by_number) == pytest.approx(2 * least)  # whatever the threads
    codes = drawn().rows
    sparse = replace(drawn(), rows=codes.to_csr())
    assert estimate_seconds(sparse) == pytest.approx(least, rel=0.5)


@pytest.mark.parametrize("weighted", [False, True])
def test_few_rows_of_numbers_are_left_to_lbfgs(weighted):
    """Copies of a row do not count, since a weight does not."""
    schema = FieldSchema(("a",), ("binned",), (60,), (1,))
    for n_rows, solver in ((499, "lbfgs"), (500, "gibbs")):
        rows = FieldArray(np.arange(n_rows)[:, None] % 59, schema)
        problem = replace(drawn(schema=schema), rows=rows, target=np.arange(1.0 * n_rows))
        problem = replace(problem, weight=np.full(n_rows, 2.0))
        if not weighted:
            two = np.tile(np.arange(n_rows), 2)
            problem = problem.at(rows[two], problem.target[two], np.ones(2 * n_rows))
        choice = choose(problem)
        assert choice.solver is SOLVERS[solver]
        assert ("too few for bins" in choice.reason) == (solver == "lbfgs")


def test_a_shared_vocabulary_is_fine_where_no_category_meets_itself():
    codes = np.column_stack([np.arange(20), np.arange(20)[::-1]])  # 20 is even: never equal
    rows = FieldArray(codes, SHARED)
    problem = replace(drawn(20, schema=SHARED), rows=rows)
    assert choose(problem).solver is SOLVERS["gibbs"]
