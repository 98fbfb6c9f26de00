"""Trained models as folders: load, extend, verify, drop classes, merge.

A model is a list of task parts. A part is a folder ``taskK`` as a run has it: ``task.json``, what
the task's plan, and ``weights.safetensors``, what its training added. Later parts build on
earlier ones and never change them.
"""
