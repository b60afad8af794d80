"""Settings for all tests: where slow twins are found, how many threads libraries start.

Nothing that one test module needs alone stands here.
"""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))
# Read when numpy and torch are loaded, here and in the processes that tests start. A worker of the
# suite has about one core: threads that wait for each other over ten numbers take 40 times as long
# when another process wants the core. Tests of threads ask for theirs.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

# How long examples take says how busy the machine is.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def one_torch_thread():
    """What a test or a fit that was cut off leaves behind does not reach the next."""
    import torch

    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)
