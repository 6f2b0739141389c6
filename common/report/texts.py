# SPDX-License-Identifier: Apache-2.0
"""The words of the report, by task."""

from collections.abc import Mapping

# in the order of the page; `{metric}` is the task's main one
FIGURES = {
    "learning_curves": ("Learning curves", "Validation metric an epoch, mean over seeds (n = number of seeds)."),
    "confusion": (
        "Confusion matrices",
        "Test images of all seeds: counts and shares of the true class, the baseline and the student that is best by {metric}.",
    ),
    "reliability": (
        "Reliability",
        "Share of right predictions against their probability, test images of all seeds in 15 bins; on the diagonal "
        "probabilities are true. ECE is the mean over seeds.",
    ),
    "panels": (
        "Panels",
        "Test slices: the worst, the median and the best by the student's Dice; above each prediction its Dice.",
    ),
    "grad_cam": (
        "Grad-CAM",
        "Test images, the worst, the median and the best by the student's probability of their class, and what speaks for "
        "that class at the bottleneck (each map scaled to its own maximum); p is its probability.",
    ),
    "tsne": ("t-SNE", ""),
    "label_efficiency": (
        "Label efficiency",
        "{metric} against labelled target patients; mean and sd over the seeds that all budgets have.",
    ),
    "scans_saved": (
        "Scans saved",
        "Labelled patients that the baseline needs for the {metric} of each student. Open bars are bounds.",
    ),
}
TSNE = {
    "segmentation": "t-SNE of bottleneck pixels of test slices, coloured by class. Distances between clusters mean nothing.",
    "classification": "t-SNE of pooled features of test images, coloured by class. Distances between clusters mean nothing.",
}
TABLES = {"table": "Results", "intervals": "Student minus baseline", "scans_saved": "Scans saved"}
SAVED = (
    "Labelled patients that `alone` needs for the student's {metric}, on its own curve (linear in the logarithm of the "
    "number), less those the student had. >N: not reached with all N."
)
COST = (
    " Training s is the time of an arm's own run; total s adds every run that it learned from, each once (empty where one of "
    "them is missing)."
)
TRAINED = (
    "* = the interval excludes zero. It speaks of the networks that were trained: how much other trainings of them would "
    "differ is not in it, and of one or two seeds not in the mean either."
)
NOTES: Mapping[str, Mapping[str, str]] = {
    "segmentation": {
        "table": "Mean ± standard deviation of the per-seed means (in cross-validation a seed is a fold). Metrics are "
        "computed a volume (a case where there are no volumes). Units with an empty truth are left out, and those where "
        "something was found nevertheless counted as false alarms; empty predictions count with Dice 0 and HD95 = the image "
        "diagonal, and their number is given." + COST,
        "intervals": "Student minus baseline, mean over patients, with the 95 % interval of a paired bootstrap over "
        "patients; all seeds of a patient are drawn together. " + TRAINED + " For HD95 less is better.",
        "scans_saved": SAVED,
    },
    "classification": {
        "table": "Mean ± standard deviation over seeds (in cross-validation a seed is a fold) of metrics over the test images "
        "of the seed. Balanced accuracy is the mean recall of the classes, AUROC the mean over classes of one against the rest "
        "(without seeds whose test set lacks a class), ECE the calibration error in 15 bins (less is better)." + COST,
        "intervals": "Student minus baseline, mean over seeds, with the 95 % interval of a paired bootstrap over patients: "
        "patients are drawn with all their images and seeds, and every metric is computed anew on what was drawn. "
        + TRAINED
        + " For ECE less is better; it is biased upwards, the more so in a resample, so that it gets no *.",
        "scans_saved": SAVED,
    },
}
