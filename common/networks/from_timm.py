# SPDX-License-Identifier: Apache-2.0
"""Networks of timm by name."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn


def from_timm(variant: str, kind: type[nn.Module], options: dict[str, Any], *, pretrained: bool) -> Any:
    """`timm.create_model(variant, **options)`; nothing is downloaded unless `pretrained`.

    Raises ValueError, which names the class wanted, for a name that timm does not know as a `kind`.
    """
    # A name like hf-hub:... is no model of timm's own, and would be looked up on the net.
    if not timm.is_model(variant) or timm.model_entrypoint(variant).__module__ != kind.__module__:
        known = f"a {kind.__name__} of timm {timm.__version__}, see timm.list_models()"
        raise ValueError(f"variant: {variant!r}; give {known}")
    return timm.create_model(variant, pretrained=pretrained, **options)
