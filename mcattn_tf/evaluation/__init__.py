"""Accuracy of the answers, and the published figures beside them."""
