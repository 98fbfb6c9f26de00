"""`clclip detect` beside the detector: which classes are shown."""

import pytest

from clclip.core.errors import InputError
from clclip.model.use.words import chosen_classes

NAMES = ["red circle", "ten", "knife, fork", "fork"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["red circle,ten"], ["red circle", "ten"]),
        (["red circle, ten "], ["red circle", "ten"]),
        (["ten", "red circle"], ["ten", "red circle"]),
        ([" knife, fork "], ["knife, fork"]),
        (["knife, fork", "ten,fork"], ["knife, fork", "ten", "fork"]),
    ],
)
def test_classes_are_chosen_by_name(given, expected):
    assert chosen_classes(given, NAMES) == expected


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([""], "an empty class name, in --classes"),
        ([" "], "an empty class name"),
        (["ten,"], "an empty class name"),
        ([], "an empty class name"),
        (["red circl"], "class 'red circl' .*red circle"),
        (["ten, knife"], "class 'knife'"),
    ],
)
def test_what_is_no_class_is_refused(given, text):
    with pytest.raises(InputError, match=text):
        chosen_classes(given, NAMES)
