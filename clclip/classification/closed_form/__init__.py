"""Classifiers that are sums over images: nothing is trained, and no task order changes them."""
