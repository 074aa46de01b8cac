"""Bundles of results from Jetson boards: packing, anonymising, reading."""
