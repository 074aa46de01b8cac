"""CSTL's neighbours in the paper's tables, written anew from their published layers."""
