"""cstl_edge: recognise people by their walk on a small computer."""

__version__ = "0.1.0.dev0"
