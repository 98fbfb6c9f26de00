"""The CLIP that ships with the package: its model, its picture world and how it was trained."""
