"""Training: compiling, fit, callbacks, distribution and faults."""
