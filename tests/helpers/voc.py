"""A hand-made PASCAL VOC devkit."""

from tests.helpers.data import save_image

SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


def thing(name, corners=(1, 1, 10, 10), difficult=0):
    tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    sides = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    part = "<part><name>head</name></part>"
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{sides}</bndbox>{part}</object>"
    )


def make_voc(root, files, lists, size=SIZE, suffix=".jpg"):
    """Write XML, images and lists; ``files`` maps a name to its objects."""
    for stem, objects in files.items():
        save_image(root / "JPEGImages" / f"{stem}{suffix}")
        (root / "Annotations").mkdir(exist_ok=True)
        text = f"<annotation>{size}{''.join(objects)}</annotation>"
        (root / "Annotations" / f"{stem}.xml").write_text(text, encoding="utf-8")
    (root / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    for name, text in lists.items():
        (root / "ImageSets/Main" / f"{name}.txt").write_text(text)


FILES = {
    "000005": [thing("chair", (3, 4, 12, 9)), thing("person", difficult=1)],
    "000012": [thing("dog", (1, 1, 40, 30))],
    "000007": [thing("dog", difficult=1)],
}


LISTS = {"trainval": "000012\n000005\n", "test": "000007\n"}
