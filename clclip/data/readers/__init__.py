"""One reader a data format: COCO json, VOC, image folder, CIFAR-100."""
