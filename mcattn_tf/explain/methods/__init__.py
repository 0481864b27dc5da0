"""Explanation methods."""
