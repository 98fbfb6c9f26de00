"""The notebook of docs/notebooks runs from top to bottom on results as a workflow leaves them."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers.report import world

NAMES = ["red disc", "blue disc", "green disc", "gold disc"]


@pytest.fixture(scope="module")
def notebook(root):
    return nbformat.read(root / "docs" / "notebooks" / "read_results.ipynb", as_version=4)


def test_nothing_is_stored_in_it(notebook):
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


def test_it_runs(notebook, tmp_path):
    truth = world.draw_images(tmp_path, NAMES, 12)
    for method in ("fvit", "clclip"):
        world.run(tmp_path, f"zoo_{method}", method, [NAMES[:2], NAMES[2:]], truth, (0, 1))
    world.classify(tmp_path, "cil_seca", "seca", [["a", "b"], ["c"]], 0.9)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=resources).execute()
    said = [
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    ]
    text = "".join(said)
    for name in ("zoo_clclip", "zoo_fvit", "cil_seca"):
        assert name in said[0]
    assert "zoo_fvit seed 1:" in text and "A: " in text and "95% in [" in text
    figures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(figures) == 2
