"""A trained network as files that need nothing of this package: SavedModel, ONNX, TFLite."""
