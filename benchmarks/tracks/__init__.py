"""The ruler of tracking: streets with their truth, replayed detections, scores, peers."""
