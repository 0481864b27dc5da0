"""Regions of images where attributes are seen."""
