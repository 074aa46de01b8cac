"""Roofline: peaks of this machine, costs of graphs, and the limits that follow from both."""
