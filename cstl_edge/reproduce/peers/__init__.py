"""Networks that the paper compares CSTL with, trained by the same loop as CSTL."""
