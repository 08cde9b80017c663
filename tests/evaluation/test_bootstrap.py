import numpy as np
import pytest

from components.evaluation.bootstrap import FEWEST, bootstrap, difference, ratio
from components.evaluation.metrics import nutrition


def test_interval_of_a_mean_matches_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(5, 2, size=(400, 1))
    found = bootstrap(values, lambda means: means[..., 0], resamples=4000, seed=2)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_pairing_takes_away_what_both_systems_share() -> None:
    random = np.random.default_rng(3)
    hardness = random.normal(0, 10, size=200)
    pairs = np.stack([hardness + 1, hardness + random.normal(0, 0.1, size=200)], axis=1)
    found = bootstrap(pairs, difference, resamples=1000, seed=4)
    assert found.low is not None
    assert found.high is not None
    assert 0.9 < found.low < found.value < found.high < 1.1


def test_interval_holds_its_level() -> None:
    random = np.random.default_rng(5)
    hits = 0
    for seed in range(200):
        drawn = random.exponential(1.0, size=(60, 1))
        found = bootstrap(drawn, lambda means: means[..., 0], resamples=300, seed=seed)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1.0 <= found.high
    assert 174 <= hits <= 199  # 95 % of 200, less what the percentile method loses on 60 skewed samples


def test_few_samples_have_a_value_and_no_interval() -> None:
    for number in (1, FEWEST - 1):
        found = bootstrap(np.ones((number, 1)), lambda means: means[..., 0], resamples=100, seed=1)
        assert (found.value, found.low, found.high) == (1, None, None)
    found = bootstrap(np.ones((FEWEST, 1)), lambda means: means[..., 0], resamples=100, seed=1)
    assert (found.low, found.high) == (1, 1)


def test_same_seed_gives_same_interval() -> None:
    pairs = np.random.default_rng(6).random((30, 2))
    one, again, other = (bootstrap(pairs, ratio, resamples=200, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert one.value == pytest.approx(pairs[:, 0].mean() / pairs[:, 1].mean())


def test_ratio_to_nothing_is_undefined() -> None:
    assert np.isnan(ratio(np.array([1.0, 0.0])))


def test_pmae_is_resampled_with_its_denominator() -> None:
    """Equal relative errors: each resample has the same pMAE, however large the dishes it drew."""
    fields = ("mass_g", "calories_kcal", "fat_g", "protein_g", "carbohydrate_g")
    true: list[dict[str, float]] = [dict.fromkeys(fields, float(size)) for size in range(1, 50)]
    guess = [{field: 0.8 * value for field, value in dish.items()} for dish in true]
    found = bootstrap(nutrition.contributions(guess, true), nutrition.pmae, resamples=500, seed=7)
    assert (found.low, found.value, found.high) == pytest.approx((20, 20, 20))
