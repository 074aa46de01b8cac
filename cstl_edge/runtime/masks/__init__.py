"""Networks that mask people: their manifest, how a foreign one is checked, what runs it."""
