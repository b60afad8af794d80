"""The memory that a process may have, as the system says it, and what is refused for want of it."""

import io
import os
import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy import sparse

import sklearn_fm
from sklearn_fm import (
    DeepFMRegressor,
    FieldSchema,
    FMClassifier,
    FMRegressor,
    load_libsvm,
)
from sklearn_fm.models import FM, DeepFM
from sklearn_fm.solvers import memory
from sklearn_fm.solvers.gibbs.posterior import prior_of_index
from sklearn_fm.solvers.memory import check_memory, find_memory_limit
from sklearn_fm.training.packing import fields_of

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
V2 = "30 23 0:26 {top} {mount} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "36 32 0:31 {top} {mount} rw,nosuid - cgroup cgroup rw,{controllers}"


def write_tree(root, cgroup, mounts, limits):
    """What the kernel shows of control groups, below another root."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("\n".join(cgroup) + "\n")
    (root / "proc/self/mountinfo").write_text("\n".join(["22 1 8:1 / / rw - ext4 a rw", *mounts]))
    for path, limit in limits.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{limit}\n")
    return root


MEMORY, G = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
UNLIMITED = 9223372036854771712  # what version 1 writes for no limit
# what the system looks like: own groups, mounts, limits by file, and the limit expected
TREES = {
    "version 2, own group": (
        ["0::/user.slice/app"],
        [V2.format(top="/", mount="/sys/fs/cgroup")],
        {"sys/fs/cgroup/user.slice/app/memory.max": 5000},
        5000,
    ),
    "version 2, a parent": (
        ["0::/user.slice/app"],
        [V2.format(top="/", mount="/sys/fs/cgroup")],
        {
            "sys/fs/cgroup/user.slice/app/memory.max": "max",
            "sys/fs/cgroup/user.slice/memory.max": 7000,
            "sys/fs/cgroup/other/memory.max": 10,
            "sys/fs/memory.max": 10,
        },
        7000,
    ),
    "version 2, all but the least count for nothing": (
        ["0::/a/b/c"],
        [V2.format(top="/", mount="/sys/fs/cgroup")],
        {
            "sys/fs/cgroup/a/b/c/memory.max": 9000,
            "sys/fs/cgroup/a/b/memory.max": 6000,
            "sys/fs/cgroup/a/memory.max": 8000,
        },
        6000,
    ),
    "version 2, container": (
        ["0::/"],
        [V2.format(top="/", mount="/sys/fs/cgroup")],
        {"sys/fs/cgroup/memory.max": 4000},
        4000,
    ),
    "version 2, container without its namespace": (
        ["0::/docker/1f"],
        [V2.format(top="/docker/1f", mount="/sys/fs/cgroup")],
        {"sys/fs/cgroup/memory.max": 3000, "sys/fs/cgroup/docker/1f/memory.max": 10},
        3000,
    ),
    "version 2, outside its namespace": (
        ["0::/../../system"],
        [V2.format(top="/", mount="/sys/fs/cgroup")],
        {"sys/fs/cgroup/memory.max": 3500, "sys/system/memory.max": 10},
        3500,
    ),
    "version 2, a name that begins alike": (
        ["0::/docker/1f2"],
        [V2.format(top="/docker/1f", mount="/sys/fs/cgroup")],
        {"sys/fs/cgroup/memory.max": 3000, "sys/fs/cgroup/2/memory.max": 10},
        3000,
    ),
    "version 1": (
        ["12:cpu,cpuacct:/x", "4:memory:/jobs/7", "1:name=systemd:/x", "0::/x"],
        [
            V1.format(top="/", mount="/sys/fs/cgroup/cpu", controllers="cpu,cpuacct"),
            V1.format(top="/", mount="/sys/fs/cgroup/memory", controllers="memory"),
        ],
        {
            f"{MEMORY}/jobs/7/{G}": UNLIMITED,
            f"{MEMORY}/jobs/{G}": 2000,
            f"{MEMORY}/{G}": UNLIMITED,
            f"sys/fs/cgroup/cpu/jobs/7/{G}": 10,
        },
        2000,
    ),
    "version 1 with another controller": (
        ["4:hugetlb,memory:/docker/1f"],
        [V1.format(top="/docker/1f", mount="/sys/fs/cgroup/memory", controllers="hugetlb,memory")],
        {f"{MEMORY}/{G}": 2500},
        2500,
    ),
    "both versions": (
        ["4:memory:/a", "0::/b"],
        [
            V1.format(top="/", mount="/sys/fs/cgroup/memory", controllers="memory"),
            V2.format(top="/", mount="/sys/fs/cgroup/unified"),
        ],
        {f"{MEMORY}/a/{G}": 6000, "sys/fs/cgroup/unified/b/memory.max": 5500},
        5500,
    ),
    "a blank in the mount": (
        ["0::/a"],
        [V2.format(top="/", mount=r"/mnt/my\040groups")],
        {"mnt/my groups/a/memory.max": 1500},
        1500,
    ),
    "no limit": (
        ["0::/a"],
        [V2.format(top="/", mount="/sys/fs/cgroup")],
        {"sys/fs/cgroup/a/memory.max": "max", "sys/fs/cgroup/memory.max": "max"},
        PHYSICAL,
    ),
    "more than there is": (
        ["0::/a"],
        [V2.format(top="/", mount="/sys/fs/cgroup")],
        {"sys/fs/cgroup/a/memory.max": 10**18},
        PHYSICAL,
    ),
    "not mounted": (["0::/a", "3:memory:/a"], [], {}, PHYSICAL),
    "in no group": ([], [V2.format(top="/", mount="/sys/fs/cgroup")], {}, PHYSICAL),
    "nonsense": (["", ":", "a:b", "0:"], ["30", "x - cgroup2", " - "], {}, PHYSICAL),
    "nonsense in a limit": (
        ["0::/a"],
        [V2.format(top="/", mount="/sys/fs/cgroup")],
        {"sys/fs/cgroup/a/memory.max": "much"},
        PHYSICAL,
    ),
}


@pytest.mark.parametrize("case", TREES)
def test_limits_of_control_groups(case, tmp_path):
    """A container of 2 GiB on a machine of 64 was taken for one of 64, and killed in mid-fit."""
    *tree, expected = TREES[case]
    limit, who = find_memory_limit(write_tree(tmp_path, *tree))
    assert limit == expected
    assert ("control group" in who) == (expected != PHYSICAL)


def test_without_proc(tmp_path):
    assert find_memory_limit(tmp_path) == (PHYSICAL, "this machine has")


def test_a_system_that_tells_nothing(tmp_path, monkeypatch):
    monkeypatch.delattr("os.sysconf")
    assert find_memory_limit(tmp_path) is None
    monkeypatch.setattr(memory, "find_memory_limit", lambda: None)
    check_memory(FieldSchema.from_sizes([10**15]), 100.0, 0.0)


def test_the_message_says_whose_limit_it_is(monkeypatch):
    monkeypatch.setattr(memory, "find_memory_limit", lambda: (2**30, "the container may use"))
    schema = FieldSchema.from_sizes([5, 2**28 - 5])
    check_memory(schema, 0.5, 2**27)
    with pytest.raises(MemoryError, match=r"2\.0 GiB .*, the container may use 1\.0 GiB. .*'x1'"):
        check_memory(schema, 1.5, 2**27)


LIMITED = """
import resource
import numpy as np
from sklearn_fm import FieldArray, FieldSchema, FMRegressor
X = FieldArray(np.zeros((60, 1), dtype=np.int64), FieldSchema.from_sizes([{size}]))
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**30, resource.RLIM_INFINITY))
try:
    FMRegressor(solver="adagrad", embedding_dim=16, max_epochs=0).fit(X, np.ones(60))
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_limit_of_the_address_space():
    """Under ``ulimit -v`` torch's RuntimeError came in the middle, once part was allocated.

    A table of 10**7 rows takes 1.3 GiB, more than is left here, less than any machine has.
    """
    env = {**os.environ, "PYTHONPATH": str(Path(sklearn_fm.__file__).parent.parent)}
    for size, expected in ((10**7, True), (10**4, False)):
        done = subprocess.run(
            [sys.executable, "-c", LIMITED.format(size=size)],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ("RLIMIT_AS (ulimit -v) leaves this process 1.0 GiB" in done.stdout) == expected


# -- sparse matrices of many columns -----------------------------------------------------------

SOLVERS = [
    *((FMRegressor, solver) for solver in ("auto", "adagrad", "ftrl", "lbfgs", "als", "gibbs")),
    *((DeepFMRegressor, solver) for solver in ("auto", "adam", "lbfgs")),
    (FMClassifier, "gibbs"),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("cls", "solver"), SOLVERS)
def test_one_line_does_not_fill_the_memory(cls, solver, monkeypatch):
    """A line ``1 400000000:1`` took 8.5 GB for names of columns before memory was checked.

    "gibbs" did not check it before it went through all columns one by one.
    """
    monkeypatch.setattr(memory, "find_memory_limit", lambda: (8 * 2**30, "this machine has"))
    text = b"1 400000000:1\n0 3:1\n" * 9
    model = cls(solver=solver).fit(*load_libsvm(io.BytesIO(b"1 1:1\n0 3:1\n" * 9)))
    tracemalloc.start()
    X, y = load_libsvm(io.BytesIO(text))
    with pytest.raises(MemoryError, match=r"table of 400,000,000 rows .*Each column of the sparse"):
        model.fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**8


def test_a_pickle_weighs_what_its_weights_do():
    """It held a name for each column of a sparse matrix, 5 MB of them for 200,000.

    Besides the 17 weights of a row there are two accumulators, from which `partial_fit` goes on.
    """
    X = sparse.random_array((500, 200_000), density=1e-4, rng=0, format="csr")
    model = FMRegressor(solver="adagrad", max_epochs=2).fit(X, np.arange(500.0))
    weights = sum(value.nbytes for value in model.module_.state_dict().values())
    text = pickle.dumps(model)
    assert len(text) <= weights * 19 / 17 + 100_000
    assert_array_equal(pickle.loads(text).predict(X), model.predict(X))


@pytest.mark.parametrize("n", [1, 3, 12])
def test_kernels_and_priors_see_a_field_per_column(n):
    """The compact schema means what one of a numeric field per column does."""
    columns, fields = FieldSchema.of_columns(n), FieldSchema.from_sizes([1] * n)
    for pair_slots in (False, True):
        models = [FM(schema, 4, pair_slots=pair_slots) for schema in (columns, fields)]
        for ours, theirs in zip(*map(fields_of, models), strict=True):
            assert_array_equal(ours, theirs)
            assert np.asarray(ours).dtype == np.asarray(theirs).dtype
    assert_array_equal(prior_of_index(columns, ("all",)), np.zeros(n))
    ours, theirs = (DeepFM(schema, 4, hidden_layer_sizes=(5,)) for schema in (columns, fields))
    for model in (ours, theirs):
        model.reset_parameters(torch.Generator().manual_seed(0))
    rows = torch.arange(n).expand(6, -1), torch.randn(6, n)
    assert torch.equal(ours(*rows), theirs(*rows))
    assert torch.equal(ours.state_dict()["embedding.weight"], theirs.embedding.weight)


@pytest.mark.parametrize("cls", [FMRegressor, DeepFMRegressor])
def test_fits_over_sparse_columns_go_on(cls):
    """partial_fit, warm starts and pickles, with what takes a schema on the way."""
    X = sparse.random_array((200, 30), density=0.2, rng=0, format="csr")
    y = X.sum(axis=1)
    whole = cls(solver="adagrad", random_state=0, unknown_dropout=0.1, warm_start=True)
    model = whole.set_params(max_epochs=3).fit(X, y)
    assert model.schema_ == FieldSchema.of_columns(30)
    model.fit(X, y)
    again = pickle.loads(pickle.dumps(model)).partial_fit(X[:100], y[:100])
    model.partial_fit(X[:100], y[:100])
    assert_array_equal(model.predict(X), again.predict(X))
    with pytest.raises(ValueError, match="expected a field with codes, of \\['x'\\]"):
        cls(solver="adagrad", pretrained={"x": np.ones((30, 16))}).fit(X, y)


def test_divergence_names_the_column():
    X = sparse.random_array((300, 50), density=0.2, rng=0, format="csr")
    X.data[X.indices == 17] = 3e18
    with pytest.raises(FloatingPointError, match=r"Field 'x17' is not scaled.* reach 3e\+18"):
        FMRegressor(solver="sgd", learning_rate=0.1).fit(X, np.arange(300.0))
