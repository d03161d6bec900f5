"""The marginal cost of a token: found where batches differ, refused where they don't."""

import random

import pytest

from negajoule.meter.marginal import MarginalCost

FIXED_J, TOKEN_J = 2.0, 0.3


def learn(cost, sizes, noise=0.0, seed=1):
    rng = random.Random(seed)
    for size in sizes:
        steps = rng.randint(1, 4)
        energy = steps * (FIXED_J + TOKEN_J * size)
        cost.learn(steps, steps * size, energy * (1 + rng.uniform(-noise, noise)))


def test_it_is_found_exactly_without_noise():
    cost = MarginalCost()
    learn(cost, [1, 2, 4, 8] * 20)
    found = cost.of(10)
    assert found.value == pytest.approx(10 * TOKEN_J, rel=1e-6)
    assert found.basis == "inferred"


@pytest.mark.parametrize("seed", range(5))
def test_its_interval_holds_the_truth_under_noise(seed):
    cost = MarginalCost()
    learn(cost, [1, 3, 8] * 100, noise=0.1, seed=seed)
    found = cost.of(1)
    assert found.low < TOKEN_J < found.high
    assert found.value < FIXED_J + TOKEN_J


def test_one_batch_size_cant_tell_it():
    cost = MarginalCost()
    learn(cost, [4] * 200)
    assert cost.of(1) is None


def test_a_few_windows_cant_tell_it():
    cost = MarginalCost()
    learn(cost, [1, 2, 4, 8])
    assert cost.of(1) is None


def test_noise_without_a_pattern_is_refused():
    cost = MarginalCost()
    rng = random.Random(3)
    for _ in range(100):
        cost.learn(1, rng.randint(1, 8), rng.uniform(1, 100))
    found = cost.of(1)
    assert found is None or found.high <= 2 * found.value


def test_it_forgets_an_engine_that_changed():
    cost = MarginalCost()
    learn(cost, [1, 2, 4, 8] * 200)
    for size in [1, 2, 4, 8] * 1500:
        cost.learn(1, size, FIXED_J + 3 * TOKEN_J * size)
    assert cost.of(1).value == pytest.approx(3 * TOKEN_J, rel=0.05)
