# SPDX-License-Identifier: Apache-2.0
"""What a bundle from elsewhere would run, read without running any of it."""

from .bundle import Finding, inspect_bundle

__all__ = ["Finding", "inspect_bundle"]
