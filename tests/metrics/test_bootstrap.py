# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from common.metrics import paired_difference


def rows(values, *, seed=0, volume="", name="a"):
    return [
        {"case": f"{name}/{i:03d}", "volume": volume, "class": "lv", "seed": seed, "dice": value}
        for i, value in enumerate(values)
    ]


def test_interval_matches_the_normal_closed_form():
    differences = np.random.default_rng(0).normal(0.03, 0.1, 400)
    base = np.full(400, 0.5)
    result = paired_difference(rows(base + differences), rows(base), "dice")
    half = 1.96 * differences.std() / np.sqrt(400)
    assert result.patients == 400
    assert result.mean == pytest.approx(differences.mean(), abs=1e-12)
    assert result.low == pytest.approx(differences.mean() - half, abs=0.05 * half)
    assert result.high == pytest.approx(differences.mean() + half, abs=0.05 * half)


def test_interval_covers_the_true_difference_about_95_percent_of_the_time():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        result = paired_difference(rows(rng.normal(0.2, 1, 50)), rows(np.zeros(50)), "dice", samples=400)
        covered += result.low <= 0.2 <= result.high
    assert 0.90 <= covered / 300 <= 0.98


def test_swapping_the_sides_mirrors_the_interval():
    rng = np.random.default_rng(2)
    a, b = rows(rng.random(30)), rows(rng.random(30))
    forward, backward = paired_difference(a, b, "dice"), paired_difference(b, a, "dice")
    assert (forward.mean, forward.low, forward.high) == pytest.approx((-backward.mean, -backward.high, -backward.low))


def test_constant_difference_has_an_interval_of_zero_width():
    base = np.random.default_rng(3).random(20)
    result = paired_difference(rows(base + 0.1), rows(base), "dice")
    assert result.high - result.low == pytest.approx(0, abs=1e-12)
    assert result.mean == pytest.approx(0.1)


def test_seeds_and_volumes_of_a_patient_stay_together():
    """Ten identical copies of each patient add no information: the interval is that of one copy."""
    rng = np.random.default_rng(4)
    values, base = rng.random(25), np.zeros(25)
    once = paired_difference(rows(values), rows(base), "dice")
    many = paired_difference(
        [row for s in range(5) for v in "ab" for row in rows(values, seed=s, volume=v)],
        [row for s in range(5) for v in "ab" for row in rows(base, seed=s, volume=v)],
        "dice",
    )
    assert many == pytest.approx(once)


def test_each_patient_weighs_the_same():
    student = rows([1.0, 0.0]) + rows([1.0], volume="second")  # patient 000 has two volumes
    baseline = rows([0.0, 0.0]) + rows([0.0], volume="second")
    assert paired_difference(student, baseline, "dice").mean == pytest.approx(0.5)


def test_order_of_rows_does_not_matter_and_the_seed_does():
    rng = np.random.default_rng(5)
    a, b = rows(rng.random(30)), rows(rng.random(30))
    assert paired_difference(a, b, "dice") == paired_difference(a[::-1], b, "dice")
    assert paired_difference(a, b, "dice", seed=1) != paired_difference(a, b, "dice", seed=2)


def test_empty_truths_are_left_out():
    assert paired_difference(rows([0.5, None, 0.7]), rows([0.4, None, 0.6]), "dice").patients == 2


@pytest.mark.parametrize(
    ("student", "baseline", "message"),
    [
        (rows([0.1, 0.2]), rows([0.1]), r"1 rows have no partner.*a/001.*of the student"),
        (rows([0.1]), rows([0.1], seed=1), r"2 rows have no partner"),
        (rows([0.1]) * 2, rows([0.1]), r"a/000.*of the student is given twice"),
        (rows([0.1, None]), rows([0.1, 0.2]), r"dice of .*a/001.* is empty on one side only"),
        (rows([None]), rows([None]), r"no patient with a non-empty truth"),
    ],
)
def test_mismatch_is_refused_by_name(student, baseline, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(student, baseline, "dice")
