# SPDX-License-Identifier: Apache-2.0
"""The report of a study: tables, intervals, figures and one HTML page, read from the runs folder."""

from .page import write_report
from .records import write_records

__all__ = ["write_records", "write_report"]
