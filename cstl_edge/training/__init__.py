"""Training of CSTL: losses, loop, run folder, validation, presets. All but `presets` import torch."""
