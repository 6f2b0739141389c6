# SPDX-License-Identifier: Apache-2.0
import warnings

import pytest

from common.data.confounded import check_confounded


def test_a_source_of_one_class_is_named_with_its_class() -> None:
    with pytest.warns(UserWarning, match="dataset covid: every training image is of class covid_19") as seen:
        check_confounded({"kermany": {"normal", "pneumonia"}, "covid": ["covid_19", "covid_19"]})
    assert len(seen) == 1 and "confounded" in str(seen[0].message)


@pytest.mark.parametrize(
    "classes",
    [
        {},
        {"alone": {"normal"}},  # one dataset has no domains to confuse
        {"a": {"normal", "pneumonia"}, "b": {"pneumonia", "normal"}},
        {"oasis": {"very_mild", "mild"}, "adni": {"mci", "ad"}},  # other names for the same disease are no confounding
        {"a": {"normal", "ill"}, "unlabelled": set()},
    ],
)
def test_other_mixtures_pass_silently(classes: dict) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_confounded(classes)
