"""The canonical name of a class: one spelling in data, tasks and outputs, whatever was typed."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from clclip.core.errors import InputError, nearest
from clclip.core.names import canonical_name, look_alike, name_fault, spelt
from clclip.data.prepare import declared_classes, prepare
from clclip.data.version import data_version, plan_facts
from clclip.workflow.describe import describe
from tests.helpers.data import CATEGORIES, TEST, TRAIN, box, edited, make_coco, read, save_image
from tests.helpers.voc import FILES, LISTS, make_voc, thing

CAFE, DECOMPOSED = "caf\u00e9", "cafe\u0301"
PERSIAN = "\u0645\u06cc\u200c\u062e"
FOLDED = {
    "accent in two code points": (DECOMPOSED, CAFE),
    "spaces at the ends": (" cat  ", "cat"),
    "ideographic space": ("red\u3000car", "red car"),
    "no-break space": ("red\u00a0car", "red car"),
    "thin space at the end": ("cat\u2009", "cat"),
    "two spaces": ("dining  table", "dining table"),
    "tab": ("dining\ttable", "dining table"),
    "line end of another system": ("cat\r\n", "cat"),
    "Hangul in letters": ("\u1100\u1161", "\uac00"),
}
KEPT = [
    "\U0001fa77 heart",
    "\u2764\ufe0f",
    "\ue000",
    "cat",
    CAFE,
    PERSIAN,
    "\U0001f468\u200d\U0001f469",
    "sea lion",
    "\u732b",
    "a.b-c_d (e)",
]
REFUSED = [
    "a\u200bb",
    "\u200ecat",
    "\u202ecat",
    "ca\u00adt",
    "\ufeffcat",
    "a\nb",
    "a\x07",
    "\u200d",
    "re\u034fd",
    "a\u115fb",
    "red\u3164box",
    "red\u2800box",
    "\ufe0f",
]


def use(name, spec, folder, method="fvit", kind="detection"):
    """Describe an experiment whose first class is ``name``; return its classes."""
    told = {"kind": kind, "method": method, "data": spec, "tasks": [[name], ["dog"]]}
    (folder / "mine.yaml").write_text(yaml.safe_dump(told, allow_unicode=True), encoding="utf-8")
    return [task["classes"] for task in describe(str(folder / "mine.yaml"))["tasks"]]


def coco(root, name):
    """Write the COCO data set of data_making with cat (both splits) under another name."""
    train, test = (edited(d, "categories", 0, "name", value=name) for d in (TRAIN, TEST))
    return make_coco(root, train, test)


def voc(root, name):
    """Write a devkit of two classes, dog and ``name``."""
    files = {"a": [thing(name)], "b": [thing("dog")], "c": [thing(name), thing("dog")]}
    make_voc(root, files, {"train": "a\nb\n", "val": "c\n"})
    return {"format": "voc", "root": str(root), "train": "train", "test": "val"}


def folders(root, name):
    """Write folders of two classes, dog and ``name``."""
    for split in ("train", "test"):
        for k in range(2):
            save_image(root / split / name / f"{k}.png", (8, 6))
            save_image(root / split / "dog" / f"{k}.png", (8, 6))
    return {"format": "folder", "root": str(root)}


@pytest.mark.parametrize("name", FOLDED)
@pytest.mark.parametrize("write", [coco, voc, folders])
def test_a_name_means_its_canonical_spelling_everywhere(tmp_path, monkeypatch, write, name):
    monkeypatch.chdir(tmp_path)
    written, canonical = FOLDED[name]
    spec = write(tmp_path / "data", written)
    assert canonical in declared_classes(spec) and written not in declared_classes(spec)
    kind = ("seca", "classification") if write is folders else ("fvit", "detection")
    for typed in {written.strip("\r\n"), canonical}:
        assert use(typed, spec, tmp_path, *kind) == [[canonical], ["dog"]]
    prepare(spec, tmp_path / "out")
    assert canonical in read(tmp_path / "out/index.json")["classes"]
    assert written not in (tmp_path / "out/train.json").read_text(encoding="utf-8").replace(
        f"train/{written}", ""
    )


@pytest.mark.parametrize("name", KEPT)
def test_canonical_names_keep_every_byte(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert canonical_name(name) == name and name_fault(name) is None
    for write in (coco, voc, folders):
        spec = write(tmp_path / write.__name__, name)
        assert name in declared_classes(spec)
    assert use(name, coco(tmp_path / "again", name), tmp_path) == [[name], ["dog"]]


def test_ids_of_canonical_data_are_those_of_earlier_versions(tmp_path):
    """No index is made again for nothing: these were computed before names were folded."""
    make_voc(tmp_path / "voc", FILES, LISTS)
    for split in ("train", "test"):
        for name in ("cat", "dog", "a b", "a"):
            for k in range(4):
                save_image(tmp_path / "folders" / split / name / f"{k}.png", (8, 6))
    specs = [
        make_coco(tmp_path / "coco"),
        {"format": "voc", "root": str(tmp_path / "voc"), "year": "2007"},
        {"format": "folder", "root": str(tmp_path / "folders")},
        {"format": "folder", "root": str(tmp_path / "folders"), "train": "train"}
        | {"test_fraction": 0.5},
    ]
    for path in tmp_path.rglob("*.*g"):
        path.write_bytes(b"x" * 100)  # sizes that no version of an encoder changes
    assert [data_version(s) for s in specs] == ["44cc4fa6", "5b34b6fb", "d904836f", "84806fa1"]


@pytest.mark.parametrize("name", ["cat ", "ca\u0301t", "cat\u3000"])
def test_an_index_made_of_other_spellings_is_made_again(tmp_path, name):
    """The id tells names as they are written from canonical ones."""
    root = tmp_path / "data"
    renamed = data_version(coco(root, name))
    train = (root / "train.json").read_bytes()
    facts = plan_facts(coco(root, canonical_name(name)))
    assert (root / "train.json").read_bytes() != train and not facts["renamed"]
    assert renamed != data_version(coco(root, canonical_name(name)))


@pytest.mark.parametrize("name", REFUSED)
def test_what_nobody_can_see_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"class name .*(invisible|control|'\\u200d'|'\\ufe0f')"):
        prepare(coco(tmp_path / "data", name), tmp_path / "out")
    with pytest.raises(InputError, match=r"class name .* (with .*inv|with con|is blank).*: tasks"):
        use(name, coco(tmp_path / "good", "cat"), tmp_path)


PAIRS = [(CAFE, DECOMPOSED), ("cat", "cat "), ("red car", "red\u00a0car"), ("a b", "a  b")]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_names_that_fold_together_are_an_error_that_shows_the_difference(
    tmp_path, monkeypatch, one, other
):
    monkeypatch.chdir(tmp_path)
    both = edited(TRAIN, "categories", 0, "name", value=one)
    both = edited(both, "categories", 2, "name", value=other)
    with pytest.raises(InputError) as caught:
        declared_classes(make_coco(tmp_path / "coco", both))
    assert f"{spelt(one)} and {spelt(other)}" in str(caught.value)
    if other.strip() == other:  # white space around a name is no spelling in XML
        files = {"a": [thing(one)], "b": [thing(other), thing("dog")], "c": [thing("dog")]}
        make_voc(tmp_path / "voc", files, {"train": "a\nb\n", "val": "c\n"})
        with pytest.raises(InputError, match=r"b.xml: object\[0\].name, expected one spelling"):
            declared_classes({"format": "voc", "root": str(tmp_path / "voc")})
    spec = folders(tmp_path / "folders", one)
    folders(tmp_path / "folders", other)
    with pytest.raises(InputError, match="of one class") as caught:
        use(one, spec, tmp_path, "seca", "classification")
    first, second = sorted((one, other))
    assert f"{spelt(first)} and {spelt(second)}" in str(caught.value)


def test_the_splits_may_spell_a_class_differently(tmp_path):
    test = edited(TEST, "categories", 0, "name", value=DECOMPOSED)
    train = edited(TRAIN, "categories", 0, "name", value=CAFE)
    assert declared_classes(make_coco(tmp_path / "coco", train, test))[0] == CAFE
    spec = folders(tmp_path / "data", CAFE)
    (tmp_path / "data/test" / CAFE).rename(tmp_path / "data/test" / DECOMPOSED)
    prepare(spec, tmp_path / "out")
    assert read(tmp_path / "out/index.json")["counts"]["classes"]["test"] == {CAFE: 2, "dog": 2}


@pytest.mark.parametrize(
    ("typed", "known", "shown"),
    [
        ("\u0441at", "cat", r"'cat'? It only looks like '\u0441at'"),
        ("mikh", "m\u200cikh", r"'m\u200cikh'? It only looks like 'mikh'"),
        ("\u0440\u0430\u0441\u0435", "pace", "It only looks like"),
        ("semi\u2010truck", "semi-truck", r"It only looks like 'semi\u2010truck'"),
        ("\u2764\ufe0f heart", "\u2764 heart", r"'\u2764 heart'? It only looks"),
    ],
)
def test_a_hint_never_shows_two_texts_that_look_the_same(typed, known, shown):
    assert look_alike(typed, known)
    assert shown in nearest(typed, ["horse", known])
    assert nearest("cart", ["horse", "cat"]) == " (did you mean 'cat'?)"


@pytest.mark.parametrize(
    "typed",
    ["tomat\u0585", "dra\u0261on", "sof\u0251", "x\u2043ray", "na\u0457ve", "perso\u0578"],
)
def test_letters_of_another_script_are_coded_though_no_table_has_them(typed):
    known = ["tomato", "dragon", "sofa", "x-ray", "na\u00efve", "person"]
    assert f"It only looks like {spelt(typed)})" in nearest(typed, known)


@pytest.mark.parametrize(
    ("typed", "known"),
    [("Apfel", "\u00c4pfel"), ("\u5927\u306e\u7d75", "\u72ac\u306e\u7d75"), ("rad", "red")],
)
def test_names_that_anybody_tells_apart_stay_readable(typed, known):
    assert nearest(typed, [known]) == f" (did you mean {known!r}?)"


def test_splits_that_disagree_by_letters_that_look_alike_are_told_so(tmp_path):
    test = edited(TEST, "categories", 0, "name", value="\u0441at")
    test["annotations"].append(box(2, 1, 3, [1, 1, 5, 5]))
    with pytest.raises(InputError, match=r"id 3 is '\\u0441at' here and 'cat' in the other split"):
        declared_classes(make_coco(tmp_path, TRAIN, test))


def test_classes_that_differ_in_case_or_look_alike_are_told(tmp_path):
    for n, other in enumerate(("Cat", "CAT", "\u0441at")):
        categories = [*CATEGORIES, {"id": 4, "name": other}]
        spec = make_coco(tmp_path / str(n), {**TRAIN, "categories": categories})
        prepare(spec, tmp_path / f"out{n}")
        said = " ".join(read(tmp_path / f"out{n}/index.json")["warnings"])
        assert f"differ in case or look alike: 'cat' and {other!a}" in said


@given(st.text())
def test_a_canonical_name_stays_as_it_is(text):
    name = canonical_name(text)
    assert canonical_name(name) == name and look_alike(name, text)
    if name_fault(text) is None:
        assert name and name_fault(name) is None and name == " ".join(name.split())
