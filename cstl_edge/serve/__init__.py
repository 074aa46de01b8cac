"""The service: many cameras, one page; processes for cameras, recognition, and page and outputs."""
