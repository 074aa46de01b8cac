"""Embeddings of whole archives: recordings and silhouettes, by processes or a Ray cluster."""
