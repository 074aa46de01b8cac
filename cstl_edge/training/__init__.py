"""Training of CSTL: presets, losses, loop, validation, run folder. Imports torch."""
