# SPDX-License-Identifier: Apache-2.0
"""A warning where a dataset and a class cannot be told apart."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping

__all__ = ["check_confounded"]


def check_confounded(classes_by_dataset: Mapping[str, Collection[str]]) -> None:
    """Warn of every dataset all of whose training images are of one class, where several datasets train together.

    There the domain tells the class: features that hide the one from the discriminator lose the other, and a joint teacher
    or a multi-head network may score well by recognising the scanner.

    Args:
        classes_by_dataset: dataset -> names of the classes that its training images have (not those it could have).
    """
    if len(classes_by_dataset) < 2:
        return
    for dataset, classes in classes_by_dataset.items():
        if len(set(classes)) == 1:
            warnings.warn(
                f"dataset {dataset}: every training image is of class {next(iter(classes))}, so that domain and class are "
                "confounded; add images of its other classes, or leave it out of the sources.",
                stacklevel=2,
            )
