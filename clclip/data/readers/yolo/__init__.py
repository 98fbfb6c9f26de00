"""YOLO labels: a text file beside every image, as Ultralytics, Roboflow and CVAT write them."""
