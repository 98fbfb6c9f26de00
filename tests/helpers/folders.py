"""A hand-made data set of class folders."""

from tests.helpers.data import save_image

TREE = {
    "train": {"n02": 3, "n01": 2, "n10": 2},
    "val": {"n01": 1, "n02": 2},
}


def make_folders(root, tree=TREE, suffix=".png"):
    """Write ``{split: {class: number of images}}``; return the data spec."""
    for split, classes in tree.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for k in range(count):
                save_image(root / split / name / f"{k} {name}{suffix}", (8, 6))
    return {"format": "folder", "root": str(root)}
