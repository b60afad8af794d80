"""Random numbers of torch's layers: from a generator of ours, whatever other threads draw.

That fits beside each other do not meet is tested in ``test_threads``.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sklearn_fm.layers.mlp import MLP
from sklearn_fm.layers.randomness import PrivateRandomness, may_draw

ONES = torch.ones(50, 4)

DRAWS = {
    "dropout": lambda: F.dropout(ONES, 0.4),
    "module": lambda: nn.Dropout(0.4)(ONES),
    "alpha_dropout": lambda: F.alpha_dropout(ONES, 0.4, training=True),
    "kernel": lambda: torch.ops.aten.native_dropout(ONES, 0.4, True)[0],
    "rrelu": lambda: F.rrelu(-ONES, training=True),
    "gumbel": lambda: F.gumbel_softmax(ONES),
    "attention": lambda: F.scaled_dot_product_attention(ONES, ONES, ONES, dropout_p=0.4),
    "rand": lambda: torch.rand(50, 4),
    "randn": lambda: torch.randn(50, 4, dtype=torch.float64),
    "rand_like": lambda: torch.rand_like(ONES),
    "randint": lambda: torch.randint(9, (50,)),
    "randint from": lambda: torch.randint(5, 9, (50,)),
    "randint_like": lambda: torch.randint_like(ONES, 9),
    "randint_like from": lambda: torch.randint_like(ONES, 5, 9),
    "randperm": lambda: torch.randperm(50),
    "normal": lambda: torch.normal(ONES, 1.0),
    "bernoulli": lambda: torch.bernoulli(ONES / 2),
    "in place": lambda: ONES.clone().exponential_(),
    "distribution": lambda: torch.distributions.Gamma(ONES, 1.0).rsample(),
    "start values": lambda: nn.Linear(9, 3).weight.detach(),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_come_from_the_seed_and_leave_the_global_state(name):
    """Forking and seeding the global generator disturbed all other threads."""
    drawn = []
    for global_seed in (0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(global_seed)
            state = torch.get_rng_state()
            with PrivateRandomness(torch.Generator().manual_seed(5)):
                drawn.append([DRAWS[name](), DRAWS[name]()])
            assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert torch.equal(drawn[0][1], drawn[1][1])
    assert not torch.equal(*drawn[0])  # it goes on from draw to draw
    with PrivateRandomness(torch.Generator().manual_seed(6)):
        assert not torch.equal(DRAWS[name](), drawn[0][0])


def test_a_generator_that_was_given_is_taken():
    mine = torch.Generator().manual_seed(3)
    with PrivateRandomness(torch.Generator().manual_seed(5)):
        drawn = torch.rand(4, generator=mine)
    assert torch.equal(drawn, torch.rand(4, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("train", [True, False])
def test_dropout_as_one_kernel(share, train):
    """CUDA's own kernel knows no generator: zero or scaled, in the right share, with its slope."""
    x = torch.full((200, 100), 2.0, requires_grad=True)
    with PrivateRandomness(torch.Generator().manual_seed(0)):
        out, kept = torch.ops.aten.native_dropout(x, share, train)
    out.sum().backward()
    share = share if train else 0.0
    scale = 1 / (1 - share) if share < 1 else 0.0
    assert kept.float().mean() == pytest.approx(1 - share, abs=0.01)
    torch.testing.assert_close(out.detach(), 2 * scale * kept)
    torch.testing.assert_close(x.grad, scale * kept)


def test_which_modules_may_draw():
    """The look at each operation takes time, so modules that are known not to draw go without."""
    assert not may_draw(MLP(3, (4, 2), 1, batch_norm=True))
    assert may_draw(MLP(3, (4, 2), 1, dropout=0.1))
    assert may_draw(nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2)))

    class Unknown(nn.Linear):
        pass

    assert may_draw(Unknown(2, 2))
