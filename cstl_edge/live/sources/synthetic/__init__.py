"""The synthetic street of `synthetic://`: its scene, its walkers, and the source."""
