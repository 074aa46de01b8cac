"""Layouts of datasets on disk: trees of folders that are listed as recordings."""
