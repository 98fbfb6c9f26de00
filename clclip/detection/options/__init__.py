"""The options of the detection methods (``switches:`` in an experiment file); torch-free.

One class per detector, and they inherit as the detectors do: an option belongs to the methods that
read it, and a new one is in no other method's task.json.
"""
