"""Asks a served network about image files."""
