# SPDX-License-Identifier: Apache-2.0
"""scripts/inspect_bundle.py finds nothing unknown in what we export."""

from pathlib import Path

import pytest

from common.inspect import inspect_bundle
from tests.hostile_bundles import zipped

from .conftest import KINDS, Exported


@pytest.mark.parametrize("kind", KINDS)
def test_every_exported_bundle_passes_as_a_folder_and_as_a_zip(exported: Exported, kind: str, tmp_path: Path) -> None:
    assert inspect_bundle(exported.folders[kind]) == []
    assert inspect_bundle(zipped(exported.folders[kind], tmp_path / f"{kind}.zip")) == []
