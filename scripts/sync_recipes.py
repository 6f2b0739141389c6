# SPDX-License-Identifier: Apache-2.0
"""Bring bundles up to date: with the recipes (`make sync`), or with a group file that was edited.

python scripts/sync_recipes.py --group bundles/ct.yaml
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from common.bundle_files import from_root, join_recipe, split_recipe, write_group
from common.command_line import command
from common.handlers import save_atomic
from common.runs import ROOT


def sync(bundles: str = "bundles", check: bool = False, group: str | None = None) -> None:
    """Write each recipe's text into the tail of every bundle configuration that names it.

    Args:
        bundles: folder of the bundles.
        check: change nothing; exit with 1 and the files' names if any is out of date.
        group: instead, a group file `bundles/<group>.yaml`: its bundles are written anew from what it says, the facts at the
            head of their configurations, metadata and READMEs too (what was changed by hand in those is lost).
    """
    if check and group is not None:
        raise SystemExit("error: --check compares with the recipes; --group writes. Give one of them.")
    if group is not None:
        try:
            named = from_root(group)
            with contextlib.chdir(ROOT):
                print("\n".join(map(str, write_group(named))))
        except (ValueError, OSError) as error:
            raise SystemExit(f"error: {error}") from error
        return
    stale = []
    paths = sorted(Path(bundles).glob("*/configs/*.yaml"))
    if not paths:
        raise SystemExit(f"error: --bundles {bundles} holds no bundle; run it from the repository's root, or correct it.")
    for path in paths:
        try:
            head, recipe, _ = split_recipe(path.read_text())
            text = join_recipe(head, recipe)
        except (ValueError, FileNotFoundError) as error:
            raise SystemExit(f"{path}: {error}") from error
        if text != path.read_text():
            stale.append(str(path))
            if not check:
                save_atomic(text, path)
    print("\n".join([*stale, f"{len(stale)} configuration(s) {'out of date' if check else 'updated'}"]))
    if check and stale:
        raise SystemExit(1)


if __name__ == "__main__":
    command(sync)
