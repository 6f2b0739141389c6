# SPDX-License-Identifier: Apache-2.0
import base64
import csv
import re
import socket

import pytest

from common.report import write_report

FILES = {
    *("table.csv", "table.md", "intervals.csv", "intervals.md", "scans_saved.csv", "scans_saved.md", "index.html"),
    *("learning_curves.png", "panels.png", "tsne.png", "label_efficiency.png", "scans_saved.png"),
}


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the report opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_report_is_complete_self_contained_and_deterministic(study, runs, networks, no_network, tmp_path):
    study("student_acdc/a<b|c/0", "acdc", [0.5, 0.5, None])  # a name that needs escaping
    index = write_report(runs, "cardiac", tmp_path / "report", samples=200)
    assert names(index.parent) == FILES
    page = index.read_text()
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert {base64.b64decode(data) for data in images} == {path.read_bytes() for path in index.parent.glob("*.png")}
    assert not re.search(r"(?:src|href)=\"(?!data:)|https?://|<script|@import", page)
    assert "0.7000 ± 0.0707" in page and "+0.0500 [+0.0500, +0.0500] *" in page and "&gt;40" in page
    assert "a&lt;b|c" in page and "a<b" not in page
    assert "| a<b\\|c |" in (index.parent / "table.md").read_text()
    again = write_report(runs, "cardiac", tmp_path / "again", samples=200)
    for path in index.parent.iterdir():
        assert path.read_bytes() == (again.parent / path.name).read_bytes(), path.name


def test_without_data_the_tables_are_written_and_the_page_says_why(study, runs, networks, tmp_path, monkeypatch):
    def gone(run, dataset, n, data_dir):
        raise FileNotFoundError(f"dataset folder {data_dir}/{dataset} does not exist")

    monkeypatch.setattr("common.report.pairs.test_slices", gone)
    with pytest.warns(UserWarning, match="No pictures of test images: dataset folder else/where/acdc does not exist"):
        index = write_report(runs, "cardiac", tmp_path / "report", samples=200, data_dir="else/where")
    assert names(index.parent) == FILES - {"panels.png", "tsne.png"}
    assert "No pictures of test images: dataset folder else/where/acdc does not exist" in index.read_text()


def test_csv_holds_the_numbers(study, runs, networks, tmp_path):
    write_report(runs, "cardiac", tmp_path, samples=200)
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    alone = next(row for row in rows if (row["target"], row["arm"], row["cases"]) == ("sun", "alone", "all"))
    assert float(alone["dice_mean"]) == pytest.approx(0.5)
    assert (alone["hd95_unit"], alone["training_seconds"], alone["parameters"]) == ("px", "60.0", "1000")
    with (tmp_path / "intervals.csv").open() as file:
        first = next(csv.DictReader(file))
    assert first["student"] == "distill" and float(first["low"]) <= float(first["difference"]) <= float(first["high"])


def test_partial_results_give_a_partial_report_and_stale_files_go(study, add_run, runs, networks, tmp_path):
    out = tmp_path / "report"
    write_report(runs, "cardiac", out, samples=200)
    partial = tmp_path / "partial"
    (runs / "student_sun").rename(tmp_path / "elsewhere")
    (partial / "student_sun" / "alone").mkdir(parents=True)
    (tmp_path / "elsewhere" / "alone" / "0").rename(partial / "student_sun" / "alone" / "0")
    index = write_report(partial, "cardiac", out, targets=["sun"])
    assert names(out) == {"table.csv", "table.md", "learning_curves.png", "index.html"}
    assert "alone" in index.read_text() and "Student minus baseline" not in index.read_text()


def test_report_of_a_classification(classified, runs, classifiers, no_network, tmp_path):
    index = write_report(runs, "pneumonia", tmp_path / "report", samples=100)
    pictures = {"confusion.png", "reliability.png", "grad_cam.png"}
    assert names(index.parent) == FILES - {"panels.png"} | pictures
    page = index.read_text()
    assert page.count("data:image/png;base64,") == 7
    assert "best by balanced accuracy" in page and "{metric}" not in page and "Dice" not in page
    assert "0.7500 ± 0.0000" in page and "Grad-CAM" in page
    again = write_report(runs, "pneumonia", tmp_path / "again", samples=100)
    for path in index.parent.iterdir():
        assert path.read_bytes() == (again.parent / path.name).read_bytes(), path.name
