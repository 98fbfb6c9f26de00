"""A task of a data set that the tests make."""


def make_task(groups, method="clclip", kind="detection", text=None, **data):
    return {
        "kind": kind,
        "method": method,
        "seed": 0,
        "task": 1 if method == "joint" else len(groups),
        "groups": groups,
        "text": text or {},
        "data": {"id": "mine", "format": "coco", "image_rule": "overlap", **data},
        "clip": {"id": "x"},
        "training": {},
        "switches": {},
        "evaluation": {"ap": "voc_area", "images": "full"},
        **({"trains": "all"} if method == "joint" else {}),
    }
