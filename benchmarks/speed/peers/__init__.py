"""The implementations that `train_step.py` measures, each in a process of its own."""
