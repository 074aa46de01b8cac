"""Training of CSTL: losses, the loop, checkpoints. Imports torch."""
