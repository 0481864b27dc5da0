"""From a model and images to arrays that explain: masks and contributions."""
