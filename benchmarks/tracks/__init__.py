"""The ruler of tracking: streets with their truth, runs of the live path, scores, peers."""
