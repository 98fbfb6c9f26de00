"""What checking the data found reaches the reader: on the page, in the table, at a run's end."""

import json

import pytest

from clclip.report import page
from clclip.report.sections.about_data import LISTED
from clclip.workflow.host import ending

INDEX = "resources/data/zoo-1/index.json"
SKIPPED = {"kind": "image", "split": "train", "file_name": "<b>.png", "id": 3, "reason": "broken"}


def reported(copy, **added):
    """Return the page and the text of a report on data whose index says ``added``."""
    root, paths = copy
    path = root / INDEX
    path.write_text(json.dumps(json.loads(path.read_text()) | added))
    text = page.report(paths, root / "results/report.html", {"examples": 0})
    return (root / "results/report.html").read_text(), text


@pytest.mark.parametrize(
    "warnings",
    [
        ["image in train and in test (2 times, first: '0001.png')"],
        [
            "classes that differ by case: 'Cat', 'cat'",
            "3 boxes clipped at the border of their image",
        ],
        ["12 images reached through symbolic links"],
        ["EXIF orientation applied: 'IMG_1 <b>.jpg'"],
    ],
)
def test_warnings_are_on_the_page_and_once_at_the_end(copy, no_figures, warnings):
    html, text = reported(copy, warnings=warnings)
    assert html.count("About the data") == 1
    for line in warnings:
        assert html.count(line.replace("'", "&#39;").replace("<", "&lt;").replace(">", "&gt;")) == 1
        assert text.count(f"about the data zoo-1: {line}\n") == 1
        assert ending(copy[0] / "results").count(line) == 1


def test_what_was_left_out_is_listed_up_to_a_limit(copy, no_figures):
    html, _ = reported(copy, skipped=[SKIPPED] * (LISTED + 5), warnings=["205 bad images left out"])
    assert html.count("&lt;b&gt;.png") == LISTED and "And 5 more" in html


@pytest.mark.parametrize("added", [{}, {"warnings": [], "skipped": []}, {"warnings": 3}])
def test_nothing_is_said_of_data_without_faults(copy, no_figures, added):
    html, text = reported(copy, **added)
    assert "About the data" not in html and "about the data" not in text


def test_a_line_break_in_a_file_name_stays_on_its_line(copy, no_figures):
    _, text = reported(copy, warnings=["image listed twice: 'a\nb.png'"])
    assert "about the data zoo-1: image listed twice: 'a b.png'\n" in text
