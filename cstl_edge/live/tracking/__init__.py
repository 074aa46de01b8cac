"""Tracking of people from frame to frame, and the filter of frames that show walking."""
