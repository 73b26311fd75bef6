"""A classifier for others: as ONNX, as a model card, as a repository, and over HTTP."""
