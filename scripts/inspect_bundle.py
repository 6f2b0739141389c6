# SPDX-License-Identifier: Apache-2.0
"""Read what a bundle from elsewhere would run, before anything of it is run: python scripts/inspect_bundle.py DIR|ZIP"""

from __future__ import annotations

import argparse
import sys
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common.inspect import inspect_bundle

SHOWN = 300  # letters of an expression


def plain(text: str) -> str:
    """Text of unknown origin for a terminal: on one line, without control characters or letters that change its direction."""
    shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} letters)"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in shown)


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 nothing unknown, 1 something to read, 2 no bundle that can be read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", metavar="DIR|ZIP", help="the bundle's folder, or a zip of it; nothing is unpacked to disk")
    bundle = parser.parse_args(arguments).bundle
    try:
        findings = inspect_bundle(bundle)
    except (ValueError, OSError) as error:
        print(f"inspect_bundle: {plain(str(error))}", file=sys.stderr)
        return 2
    for name, found in groupby(findings, key=lambda finding: finding.file):
        print(plain(name))
        for finding in found:
            print(f"  {finding.reason}" + (f": {plain(finding.text)}" if finding.text else ""))
    if findings:
        files = len({finding.file for finding in findings})
        print(f"read this first: {len(findings)} finding{'s' * (len(findings) > 1)} in {files} file{'s' * (files > 1)}")
        return 1
    print(f"nothing unknown found in {plain(bundle)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
