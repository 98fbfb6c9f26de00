"""The parts of a SECA learner: visual side, text side, teacher, visual classifier, replay."""
