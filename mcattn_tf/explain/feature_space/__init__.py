"""Analysis of the feature space: channels, attributes and their correlation."""
