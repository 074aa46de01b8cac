"""From frames to events: perception in one thread, recognition in the caller's."""
