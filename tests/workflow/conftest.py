"""Fixtures of the workflow tests."""

from pathlib import Path

import pytest

from tests.helpers.workflow.project import EXPERIMENT, Project, copy_project, make_cards


@pytest.fixture(scope="session")
def project(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run of one experiment of three tasks; tests edit and restore it."""
    project = copy_project(root, tmp_path_factory.mktemp("project"))
    make_cards(project.work / "cards")
    project.write("cards_3.yaml", EXPERIMENT)
    project.run("experiments=cards_3.yaml")
    return project
