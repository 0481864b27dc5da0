"""Training: fit, callbacks, distribution and faults."""
