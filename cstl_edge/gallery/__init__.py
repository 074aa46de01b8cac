"""Gallery of enrolled people: their templates on disk, matching, and open-set identification."""
