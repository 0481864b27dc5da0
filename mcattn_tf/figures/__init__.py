"""Figures: arrays to matplotlib figures to files."""
