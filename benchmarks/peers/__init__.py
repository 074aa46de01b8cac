"""Peers of CSTL in the tables of its paper, written anew from their published layers."""
