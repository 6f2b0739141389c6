# SPDX-License-Identifier: Apache-2.0
"""From a trained run to a self-contained MONAI bundle that needs nothing of this project."""

from .bundle import export_bundle
from .manifest import manifest

__all__ = ["export_bundle", "manifest"]
