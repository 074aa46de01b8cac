"""Walkers: synthetic people whose silhouettes the network trains on and is measured with."""
