# SPDX-License-Identifier: Apache-2.0
"""Writes report/: tables, figures, and index.html that embeds them all."""

import base64
import csv
import html
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from . import efficiency, intervals, table
from .attention import attention
from .confusion import confusion, reliability
from .curves import label_efficiency, learning_curves, scans_saved
from .pairs import Pair, load_pairs
from .pictures import panels
from .results import Result, find_results
from .tasks import HEADINGS, MAIN
from .texts import FIGURES, NOTES, TABLES, TSNE
from .tsne import tsne

Printed = tuple[list[str], list[list[str]]]  # header, rows

STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1200px;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;font-size:13px;margin:1em 0;display:block;overflow-x:auto}"
    "td,th{border:1px solid #ccc;padding:3px 8px;text-align:right;white-space:nowrap}"
    "td:first-child,th:first-child{text-align:left}th{background:#f3f3f3}img{max-width:100%}"
)


def write_report(
    runs: Path,
    group: str,
    out: Path,
    *,
    targets: Sequence[str] | None = None,
    samples: int = 10000,
    data_dir: str | None = None,
) -> Path:
    """Write the report of `group` and return its index.html, which is written last.

    Arms, seeds and budgets that have not run are absent; nothing at all raises (see `find_results`). Figures that an
    earlier report wrote and this one has no data for are removed. Pictures of test images need the weights and the data (in
    `data_dir`, or where training found them): if these cannot be read, the report is written without and says why.
    """
    results = find_results(runs, group, targets)
    table_rows = table.table_rows(results)
    interval_rows = intervals.interval_rows(results, samples=samples)
    saved_rows = efficiency.saved_rows(results)
    pairs, lack = _pairs(results, data_dir)
    drawn: dict[str, Callable[[], Figure | None]] = {
        "learning_curves": lambda: learning_curves(results),
        "confusion": lambda: confusion(results),
        "reliability": lambda: reliability(results),
        "panels": lambda: panels(pairs),
        "grad_cam": lambda: attention(pairs),
        "tsne": lambda: tsne(pairs),
        "label_efficiency": lambda: label_efficiency(results),
        "scans_saved": lambda: scans_saved(saved_rows),
    }
    sections: dict[str, Mapping[str, Printed]] = {
        "table": table.printed(table_rows),
        "intervals": intervals.printed(interval_rows),
        "scans_saved": {"": efficiency.printed(saved_rows)} if saved_rows else {},
    }
    task = results[0].task
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in {"table": table_rows, "intervals": interval_rows, "scans_saved": saved_rows}.items():
        _write_csv(out / f"{name}.csv", rows)
        _write_markdown(out / f"{name}.md", _filled(NOTES[task][name], task), sections[name])
    images = {name: image for name, draw in drawn.items() if (image := _write_figure(out / f"{name}.png", draw()))}
    index = out / "index.html"
    index.write_text(_page(group, task, sections, images, lack), encoding="utf-8")
    return index


def _pairs(results: Sequence[Result], data_dir: str | None) -> tuple[list[Pair], str]:
    """What pictures show, and why there is nothing."""
    try:
        return load_pairs(results, data_dir=data_dir), ""
    except (OSError, ValueError) as error:
        lack = f"No pictures of test images: {error}"
        warnings.warn(lack, stacklevel=3)
        return [], lack


def _filled(text: str, task: str) -> str:
    return text.replace("{metric}", HEADINGS[MAIN[task]])


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        path.unlink(missing_ok=True)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_markdown(path: Path, note: str, tables: Mapping[str, Printed]) -> None:
    if not tables:
        path.unlink(missing_ok=True)
        return
    parts = [note]
    for title, (header, rows) in tables.items():
        lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
        parts += [f"## {title}"] if title else []
        parts.append("\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines))
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _write_figure(path: Path, figure: Figure | None) -> bytes | None:
    if figure is None:
        path.unlink(missing_ok=True)
        return None
    FigureCanvasAgg(figure).print_png(path)
    return path.read_bytes()


def _page(group: str, task: str, sections: Mapping[str, Mapping[str, Printed]], images: Mapping[str, bytes], lack: str) -> str:
    parts = [f"<h1>Study: {html.escape(group)}</h1>"]
    for name, tables in sections.items():
        if tables:
            parts.append(f"<h2>{TABLES[name]}</h2><p>{html.escape(_filled(NOTES[task][name], task))}</p>")
            parts += [f"<h3>{html.escape(title)}</h3>{_html_table(*printed)}" for title, printed in tables.items()]
    parts += [f"<p>{html.escape(lack)}</p>"] if lack else []
    for name, (title, caption) in FIGURES.items():
        if name in images:
            data = base64.b64encode(images[name]).decode()
            caption = html.escape(_filled(caption or TSNE[task], task))
            parts.append(f'<h2>{title}</h2><p>{caption}</p><img alt="{name}" src="data:image/png;base64,{data}">')
    head = f'<meta charset="utf-8"><title>Study: {html.escape(group)}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>\n" + "\n".join([line(header, "th"), *(line(row, "td") for row in rows)]) + "\n</table>"
