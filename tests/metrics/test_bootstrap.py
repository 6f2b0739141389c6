# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from common.metrics import bootstrap, paired_difference, paired_scores
from common.metrics.classification import METRICS, scores


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


def images(labels, probabilities, *, cases=None, seed=0):
    return [
        {"case": f"a/{i if cases is None else cases[i]:03d}", "image": f"{i}.png", "seed": seed, "label": int(label)}
        | {"probabilities": [1 - p, p]}
        for i, (label, p) in enumerate(zip(labels, probabilities, strict=True))
    ]


def predictions(rng, labels, skill):
    return 1 / (1 + np.exp(-(skill * (2 * labels - 1) + rng.normal(size=len(labels)))))


def test_scores_of_resampled_patients_equal_a_slow_bootstrap():
    """Patients drawn one by one in Python, scikit-learn on the images of those drawn."""
    rng = np.random.default_rng(0)
    seeds = []
    for seed in range(2):
        labels, cases = rng.integers(0, 2, 60), rng.integers(0, 25, 60) + 25 * seed  # folds: other patients
        rows_of = [images(labels, predictions(rng, labels, skill), cases=cases, seed=seed) for skill in (0.8, 0.3)]
        seeds.append((labels, cases, rows_of))
    student, baseline = ([row for _, _, rows_of in seeds for row in rows_of[side]] for side in (0, 1))
    result = paired_scores(student, baseline, samples=4000)
    patients = np.unique(np.concatenate([cases for _, cases, _ in seeds]))

    def differences(drawn):
        values = []
        for labels, cases, rows_of in seeds:
            index = np.concatenate([np.flatnonzero(cases == patient) for patient in drawn])
            both = [np.array([rows_of[side][i]["probabilities"] for i in index]) for side in (0, 1)]
            values.append([a - b for a, b in zip(*(scores(labels[index], p).values() for p in both), strict=True)])
        return np.mean(values, axis=0)

    slow = np.array([differences(rng.choice(patients, len(patients))) for _ in range(150)])
    for column, metric in enumerate(METRICS):
        found, spread = result[metric], slow[:, column].std()
        assert found.mean == pytest.approx(differences(patients)[column], abs=1e-12), metric
        assert found.patients == len(patients)
        assert (found.high - found.low) / (2 * 1.96) == pytest.approx(spread, rel=0.25), metric


def test_accuracy_interval_matches_the_normal_closed_form():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 900)
    student, baseline = (images(labels, predictions(rng, labels, skill)) for skill in (1.0, 0.5))
    result = paired_scores(student, baseline, samples=4000)["accuracy"]
    right = [np.array([(row["probabilities"][1] > 0.5) == row["label"] for row in side], float) for side in (student, baseline)]
    half = 1.96 * (right[0] - right[1]).std() / np.sqrt(900)
    assert result.mean == pytest.approx((right[0] - right[1]).mean())
    assert result.low == pytest.approx(result.mean - half, abs=0.06 * half)
    assert result.high == pytest.approx(result.mean + half, abs=0.06 * half)


def test_images_and_seeds_of_a_patient_stay_together():
    """The same predictions under five seeds, and each image twice, add no information."""
    rng = np.random.default_rng(2)
    labels = np.tile([0, 1], 20)
    a, b = predictions(rng, labels, 1.0), predictions(rng, labels, 0.2)
    once = paired_scores(images(labels, a), images(labels, b), samples=1000)
    twice = np.tile(np.arange(40), 2)
    many = [[row for s in range(5) for row in images(np.tile(labels, 2), np.tile(p, 2), cases=twice, seed=s)] for p in (a, b)]
    for metric, found in paired_scores(*many, samples=1000).items():
        assert found == pytest.approx(once[metric]), metric


def test_swapping_the_arms_mirrors_every_interval():
    rng = np.random.default_rng(3)
    labels = np.tile([0, 1], 20)
    a, b = (images(labels, predictions(rng, labels, 0.5)) for _ in range(2))
    forward, backward = paired_scores(a, b, samples=500), paired_scores(b, a, samples=500)
    for metric, (mean, low, high, _) in forward.items():
        assert (mean, low, high) == pytest.approx((-backward[metric].mean, -backward[metric].high, -backward[metric].low))
    same = paired_scores(a, a, samples=500)
    assert {difference[:3] for difference in same.values()} == {(0.0, 0.0, 0.0)}


def test_what_was_compared_before_does_not_matter():
    """Resamples of an arm are kept; the same predictions of other patients, or another seed, are other resamples."""
    rng = np.random.default_rng(4)
    labels = np.tile([0, 1], 20)
    a, b = predictions(rng, labels, 1.0), predictions(rng, labels, 0.2)
    grouped = [images(labels, p, cases=np.repeat(np.arange(20), 2)) for p in (a, b)]
    alone = [images(labels, p) for p in (a, b)]
    asked = [(alone, 0), (grouped, 0), (alone, 1)]
    kept = [paired_scores(*arms, samples=300, seed=seed) for arms, seed in asked]
    for (arms, seed), before in zip(asked, kept, strict=True):
        bootstrap._draws.cache_clear()
        bootstrap._scores.cache_clear()
        assert paired_scores(*arms, samples=300, seed=seed) == before
    assert kept[0]["auroc"] != kept[1]["auroc"] != kept[2]["auroc"] != kept[0]["auroc"]


def test_without_a_class_there_is_no_auroc_and_a_rare_one_is_no_obstacle():
    rows_of = images(np.zeros(5), np.linspace(0.1, 0.9, 5))
    assert set(paired_scores(rows_of, rows_of, samples=50)) == set(METRICS) - {"auroc"}
    rare = images(np.eye(8)[0], np.linspace(0.9, 0.1, 8))  # one patient in three resamples lacks class 1
    flat = images(np.eye(8)[0], np.full(8, 0.5))
    found = paired_scores(rare, flat, samples=500)["auroc"]
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("student", "baseline", "message"),
    [
        (images([0, 1], [0.1, 0.2]), images([0], [0.1]), r"1 rows have no partner.*a/001.*of the student"),
        (images([0], [0.1]), images([1], [0.1]), r"a/000.* is of class 0 for the student and 1 for the baseline"),
        (images([0], [0.1]) * 2, images([0], [0.1]), r"a/000.*of the student is given twice"),
        ([], [], "no image to compare on"),
    ],
)
def test_images_that_do_not_match_are_refused_by_name(student, baseline, message):
    with pytest.raises(ValueError, match=message):
        paired_scores(student, baseline)
