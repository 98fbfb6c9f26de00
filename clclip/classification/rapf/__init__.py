"""RAPF (ECCV 2024): a linear adapter on frozen features, with replay of class Gaussians."""
