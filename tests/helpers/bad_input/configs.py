"""Bad experiment files and bad annotations: name -> (damage, command, parts of the message)."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

from tests.helpers.bad_input.world import edit_json, edit_yaml, prepare_call

DESCRIBE = ["describe", "cards.yaml"]


def keys(**values):
    """Return a damage that sets top-level keys of the experiment file."""
    return lambda work: edit_yaml(work / "cards.yaml", **values)


def text(old: str, new: str):
    """Return a damage that replaces text of the experiment file."""

    def damage(work: Path) -> None:
        path = work / "cards.yaml"
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return damage


def raw(content: bytes):
    """Return a damage that replaces the experiment file."""
    return lambda work: (work / "cards.yaml").write_bytes(content)


def as_folder(work: Path) -> None:
    (work / "cards.yaml").unlink()
    (work / "cards.yaml").mkdir()


def same_base(work: Path) -> None:
    edit_yaml(work / "cards.yaml", base="other.yaml")
    (work / "other.yaml").write_text("base: cards.yaml\n")


DATA = {"format": "coco", "root": "cards", "train": "train.json", "test": "test.json"}
CONFIGS = {
    "unknown key": (keys(trianing={}), ["'trianing'", "did you mean 'training'?", "cards.yaml"]),
    "misspelt training key": (
        keys(training={"epoch": 1}),
        ["'epoch'", "did you mean 'epochs'?", "training: epoch"],
    ),
    "misspelt switch": (keys(switches={"denze": "auto"}), ["'denze'", "did you mean 'dense'?"]),
    "misspelt data key": (
        keys(data={**DATA, "imgaes": "images"}),
        ["'imgaes'", "did you mean 'images'?"],
    ),
    "misspelt method": (keys(method="clcilp"), ["'clcilp'", "did you mean 'clclip'?"]),
    "misspelt CLIP": (keys(clip={"model": "ViT-B-61"}), ["'ViT-B-61'", "did you mean"]),
    "size no multiple of the patch": (
        keys(training={"image_size": 100}),
        ["image_size 100", "training.image_size", "the patch of embedded, 8, e.g. 96 or 104"],
    ),
    "size of one task": (
        keys(per_task={2: {"training": {"image_size": 36}}}),
        ["image_size 36", "per_task.2: training.image_size", "e.g. 32 or 40"],
    ),
    "size and another patch": (
        keys(clip={"model": "ViT-L-14", "tag": "openai"}, training={"image_size": 640}),
        ["image_size 640, in", "the patch of ViT-L-14, 14, e.g. 630 or 644"],
    ),
    "download of COCO": (
        keys(data={**DATA, "download": True}),
        ["format 'coco' has no download", "cards.yaml: data"],
    ),
    "embedded CLIP with a tag": (
        keys(clip={"model": "embedded", "tag": "openai"}),
        ["clip.tag 'openai' for 'embedded', which has none", "cards.yaml: clip"],
    ),
    "misspelt embedded CLIP": (
        keys(clip={"model": "embedded_clss", "tag": "x"}),
        ["'embedded_clss'", "did you mean 'embedded_cls'?"],
    ),
    "unknown tag": (
        keys(clip={"model": "ViT-B-16", "tag": "opena"}),
        ["unknown tag 'opena' of ViT-B-16", "did you mean 'openai'?", "cards.yaml: clip"],
    ),
    "CLIP without patch tokens": (
        keys(clip={"model": "RN50", "tag": "openai"}),
        ["'RN50' has no patch tokens", "cards.yaml: clip"],
    ),
    "image rule for classification": (
        lambda work: edit_yaml(
            work / "cards.yaml",
            kind="classification",
            method="seca",
            data={"format": "folder", "root": "birds", "image_rule": "disjoint"},
        ),
        ["data.image_rule is for kind 'detection'"],
    ),
    "epochs as text": (
        keys(training={"epochs": "many"}),
        ["'many'", "training: epochs", "whole number"],
    ),
    "epochs as list": (keys(training={"epochs": [1]}), ["[1]", "training: epochs", "whole number"]),
    "epochs negative": (keys(training={"epochs": -1}), ["-1", "greater than or equal to 0"]),
    "rate zero": (keys(training={"lr": 0}), ["got 0", "training: lr", "greater than 0"]),
    "rate NaN": (keys(training={"lr": math.nan}), ["nan", "training: lr", "finite"]),
    "rate word": (keys(training={"lr": "fast"}), ["'fast'", "training: lr", "number"]),
    "training is a list": (keys(training=[1]), ["[1]", "training", "a mapping of keys to values"]),
    "tasks as text": (keys(tasks="ace"), ["'ace'", "tasks", "list"]),
    "class is a number": (keys(tasks=[[1]]), ["got 1", "tasks.0.0", "in quotes"]),
    "class is yes": (text("- ace", "- yes"), ["got true (or yes", "tasks.0.0", "in quotes"]),
    "no tasks": (keys(tasks=[]), ["no task given"]),
    "empty task": (keys(tasks=[["ace"], []]), ["task 2 has no classes"]),
    "overlapping classes": (
        keys(tasks=[["ace"], ["ten", "ace"]]),
        ["'ace' is in task 1 and in task 2"],
    ),
    "class twice": (keys(tasks=[["ace", "ace"]]), ["'ace' is in task 1 and in task 1"]),
    "class with newline": (keys(tasks=[["a\nb"]]), ["control characters"]),
    "unknown class": (keys(tasks=[["aec"]]), ["'aec' is not in the data", "did you mean 'ace'?"]),
    "task without images": (
        lambda work: edit_json(
            work / "cards/train.json",
            lambda d: d["annotations"].__setitem__(
                slice(None), [a for a in d["annotations"] if a["category_id"] != 3]
            ),
        ),
        ["no training image for task 2 ('queen')", "classes with training images"],
    ),
    "tasks and protocol": (
        keys(protocol="voc_10_10"),
        ["either tasks or stream"],
    ),
    "seed negative": (keys(seeds=[-1]), ["seed -1 is outside"]),
    "seed twice": (keys(seeds=[1, 1]), ["seed 1 is given twice"]),
    "seed as float": (keys(seeds=[0.5]), ["0.5", "seeds.0", "whole number"]),
    "epochs as true": (keys(training={"epochs": True}), ["got True", "training: epochs", "number"]),
    "rate as false": (keys(training={"lr": False}), ["got False", "training: lr", "a number"]),
    "seed as true": (keys(seeds=[True]), ["got [True]", "seeds", "not true or false"]),
    "switch as true": (keys(switches={"nms": True}), ["got True", "switches: nms", "a number"]),
    "override as true": (
        keys(per_task={2: {"training": {"epochs": True}}}),
        ["got True", "per_task.2", "training: epochs"],
    ),
    "rate beyond floats": (keys(training={"lr": "1e400"}), ["'1e400'", "lr", "finite"]),
    "rate with a comma": (keys(training={"lr": "0,001"}), ["'0,001'", "training: lr", "number"]),
    "seed of 30 digits": (keys(seeds=[10**30]), ["seed 1000", "outside 0..2147483647"]),
    "channels without end": (keys(switches={"channels": 10**12}), ["channels", "equal to 4096"]),
    "scale of no resampler": (keys(switches={"scales": [3]}), ["scale 3", "one of 4, 2, 1, 0.5"]),
    "switch of another method": (keys(switches={"memory": 9}), ["'memory'", "fvit_replay"]),
    "switch without a meaning": (
        keys(switches={"drift_weight": 9}),
        ["'drift_weight'", "shared: adapters", "shared: drift"],
    ),
    "scale negative": (
        keys(switches={"scales": [-1.0]}),
        ["scale -1", "scales.0", "one of 4, 2, 1, 0.5"],
    ),
    "no scales": (keys(switches={"scales": []}), ["switches: scales", "at least 1 item"]),
    "text blank": (keys(text={"ace": " "}), ["the text of 'ace'", "blank"]),
    "text with a line break": (keys(text={"ace": "a\nb"}), ["the text of 'ace'", "control"]),
    "look-alike key": (
        keys(**{"tr\u0430ining": {}}),
        ["'tr\u0430ining'", "did you mean 'training'?"],
    ),
    "look-alike class": (
        keys(tasks=[["\u0430ce"]]),
        ["'\u0430ce' is not in the data", "did you mean 'ace'?"],
    ),
    "class with an invisible letter": (keys(tasks=[["ace\u200b"]]), [r"'ace\u200b'", "control"]),
    "class is a date": (keys(tasks=[[date(2024, 1, 1)]]), ["date(2024, 1, 1)", "tasks.0.0"]),
    "class is nothing": (keys(tasks=[["ace", None]]), ["got null", "tasks.0.1", "in quotes"]),
    "home of nobody": (
        keys(clip={"model": "ViT-B-16", "tag": "openai", "file": "~nobody-here/w.pt"}),
        ["no such weights file", "~nobody-here/w.pt", "clip.file"],
    ),
    "annotations outside": (
        keys(data={**DATA, "train": "../../../none.json"}),
        ["cannot be read", "none.json"],
    ),
    "tabs": (raw(b"kind: detection\n\tmethod: fvit\n"), ["not plain YAML", "line 2"]),
    "two documents": (raw(b"kind: detection\n---\nkind: detection\n"), ["another document"]),
    "a NUL": (raw(b"kind: det\0ection\n"), ["not plain YAML", "#x0000"]),
    "UTF-16": (raw("kind: detection\n".encode("utf-16")), ["not UTF-8", "cards.yaml"]),
    "inner key twice": (raw(b"training: {lr: 1, lr: 2}\n"), ["'lr' is given twice", "line 1"]),
    "a list as key": (raw(b"? [a]\n: 2\n"), ["unhashable key", "line 1"]),
    "a value within itself": (raw(b"kind: &a [*a]\n"), ["kind", "'detection' or"]),
    "override of task 9": (keys(per_task={9: {}}), ["got task 9", "per_task", "tasks 1..2"]),
    "override misspelt": (
        keys(per_task={2: {"training": {"lrr": 1}}}),
        ["'lrr'", "did you mean 'lr'?", "per_task.2"],
    ),
    "name with a slash": (keys(name="../x"), ["'../x'", "letters, digits"]),
    "name of a shipped experiment": (keys(name="voc_10_10_fvit"), ["a shipped experiment's"]),
    "name of a file": (keys(name="summary.csv"), ["'summary.csv'", "expected another name"]),
    "no CLIP file": (
        keys(clip={"model": "ViT-B-16", "tag": "openai", "file": "none.safetensors"}),
        ["no such weights file", "none.safetensors", "clip.file"],
    ),
    "yaml tag": (
        raw(b"kind: !!python/object/apply:os.system ['touch pwned']\n"),
        ["not plain YAML", "python/object", "line 1"],
    ),
    "key twice": (text("method:", "kind: detection\nmethod:"), ["'kind' is given twice", "line"]),
    "billion laughs": (
        raw(
            b"a: &a [x,x,x,x]\n"
            + b"".join(
                b"%c: &%c [%s]\n" % (k, k, b",".join([b"*%c" % (k - 1)] * 9))
                for k in range(98, 115)
            )
        ),
        ["more than 100 aliases"],
    ),
    "deep nesting": (raw(b"[" * 3000), ["not plain YAML"]),
    "not UTF-8": (raw(b"kind: \xff\xfe"), ["not UTF-8", "cards.yaml"]),
    "empty file": (raw(b""), ["an empty file", "a mapping"]),
    "a list": (raw(b"- a\n"), ["got a list", "a mapping"]),
    "half a file": (raw(b"kind: {a: [1,"), ["not plain YAML", "line 1"]),
    "a folder": (as_folder, ["a folder", "cards.yaml", "clclip init"]),
    "bases in a circle": (same_base, ["base files that name each other"]),
    "base missing": (keys(base="nothing.yaml"), ["no such experiment file", "nothing.yaml"]),
}


def train(change):
    """Return a damage that changes the training annotations."""
    return lambda work: edit_json(work / "cards/train.json", change)


def at(*path, value):
    """Return a damage that sets one value of the training annotations."""

    def change(data):
        target = data
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return train(change)


def annotations(content: bytes):
    """Return a damage that replaces the training annotations."""
    return lambda work: (work / "cards/train.json").write_bytes(content)


def a_box(value):
    return at("annotations", 0, "bbox", value=value)


def other_ids(work: Path) -> None:
    def change(data):
        data["categories"][0]["name"] = "emu"

    edit_json(work / "cards/test.json", change)


HUGE = b'{"images": [{"id": ' + b"9" * 6000 + b"}]}"
ANNOTATIONS = {
    "empty": (annotations(b""), ["not JSON", "train.json"]),
    "half": (annotations(b'{"images": [{"id": 1'), ["not JSON", "train.json"]),
    "not UTF-8": (annotations(b'{"images": "\xff"}'), ["not JSON", "train.json", "UTF-8"]),
    "nested": (annotations(b"[" * 100_000), ["nested too deeply"]),
    "number of 6000 digits": (annotations(HUGE), ["not JSON", "train.json"]),
    "list": (annotations(b"[]"), ["a list", "a COCO object"]),
    "no images": (train(lambda d: d.pop("images") and None), ["no images", "train.json"]),
    "image id twice": (at("images", 1, "id", value=1), ["duplicate id 1", "images[1].id"]),
    "box id twice": (at("annotations", 1, "id", value=10), ["duplicate id 10", "annotations[1]"]),
    "image missing": (at("annotations", 0, "image_id", value=99), ["image_id 99", "not in images"]),
    "category missing": (
        at("annotations", 0, "category_id", value=99),
        ["category_id 99", "not in categories"],
    ),
    "category id twice": (at("categories", 1, "id", value=1), ["duplicate id 1", "categories[1]"]),
    "class name twice": (at("categories", 1, "name", value="ace"), ["duplicate class name 'ace'"]),
    "class name blank": (at("categories", 1, "name", value=" "), ["class name ' '"]),
    "class name with a line break": (
        at("categories", 1, "name", value="a\nb"),
        ["control characters"],
    ),
    "ids clash between splits": (other_ids, ["id 1 is 'emu' here and 'ace' in the other split"]),
    "box negative": (a_box([9, 2, -3, 5]), ["no positive width", "annotations[0].bbox"]),
    "box zero": (a_box([9, 2, 0, 5]), ["no positive width", "(id 10)"]),
    "box NaN": (a_box([math.nan, 2, 3, 5]), ["not finite", "annotations[0].bbox"]),
    "box infinite": (a_box([0, 2, math.inf, 5]), ["not finite"]),
    "box outside": (a_box([60, 2, 20, 5]), ["16 px outside", "64 x 48", "on_bad_box: clip | skip"]),
    "box far away": (a_box([600, 2, 20, 5]), ["outside", "64 x 48"]),
    "box of three": (a_box([1, 2, 3]), ["[1, 2, 3]", "four numbers"]),
    "box of text": (a_box(["1", 2, 3, 4]), ["'1'", "four numbers"]),
    "box of true": (a_box([True, 1, 2, 3]), ["box [true", "four numbers"]),
    "box beyond floats": (a_box([1e308, 1, 1e308, 3]), ["outside", "64 x 48"]),
    "segmentation only": (
        train(
            lambda d: [a.update(segmentation=[a.pop("bbox")]) for a in d["annotations"]] and None
        ),
        ["no box", "annotations[0].bbox", "four numbers"],
    ),
    "id as float": (at("images", 0, "id", value=1.5), ["id 1.5", "images[0].id", "an integer"]),
    "id as text": (at("images", 0, "id", value="1"), ["id '1'", "images[0].id", "an integer"]),
    "id as true": (at("images", 0, "id", value=True), ["id true", "an integer"]),
    "id NaN": (at("images", 0, "id", value=math.nan), ["id nan", "an integer"]),
    "id beyond 2**53": (at("images", 0, "id", value=2**60), ["images[0].id", "an integer"]),
    "category as text": (at("annotations", 0, "category_id", value="1"), ["category_id '1'"]),
    "null among boxes": (train(lambda d: d["annotations"].append(None)), ["annotations[12]"]),
    "crowd as text": (at("annotations", 0, "iscrowd", value="no"), ["iscrowd 'no'", "0 or 1"]),
    "UTF-16": (annotations('{"images": []}'.encode("utf-16")), ["not JSON", "UTF-8"]),
    "two objects": (annotations(b"{}\n{}\n"), ["not JSON", "Extra data", "line 2"]),
    "Windows path": (
        at("images", 0, "file_name", value="a\\b.png"),
        ["no such image", "images[0]"],
    ),
    "file name too long": (at("images", 0, "file_name", value="x" * 3000), ["File name too long"]),
    "width as text": (at("images", 0, "width", value="64"), ["width '64'", "images[0].width"]),
    "wrong size": (at("images", 0, "width", value=63), ["63 x 48 recorded", "64 x 48"]),
    "path upwards": (
        at("images", 0, "file_name", value="../../cards.yaml"),
        ["leaves the image folder", "images[0].file_name"],
    ),
    "absolute path": (at("images", 0, "file_name", value="/etc/passwd"), ["leaves the image"]),
    "a folder": (
        lambda work: [(work / "cards/train.json").unlink(), (work / "cards/train.json").mkdir()],
        ["cannot be read", "train.json"],
    ),
    "gone": (lambda work: (work / "cards/train.json").unlink(), ["no such file", "train.json"]),
}


def call(changes):
    """Return the command that indexes the cards with some keys of ``data`` changed."""
    return lambda work: prepare_call(work, **changes)


CASES = {
    **{f"configs: {n}": (damage, DESCRIBE, parts) for n, (damage, parts) in CONFIGS.items()},
    **{
        f"annotations: {n}": (damage, prepare_call, parts)
        for n, (damage, parts) in ANNOTATIONS.items()
    },
    **{
        f"annotations: {name}": (lambda work: None, call(changes), parts)
        for name, changes, parts in (
            ("no folder", {"root": "/no/such"}, ["no folder '/no/such'", "data.root"]),
            ("root is a file", {"root": "cards.yaml"}, ["no folder", "cards.yaml", "data.root"]),
            ("format", {"format": "kitti"}, ["'kitti'", "voc, yolo, folder or cifar100"]),
            ("no image folder", {"images": "pictures"}, ["no image folder", "data.images"]),
        )
    },
}
