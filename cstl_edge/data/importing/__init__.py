"""Import of published gait datasets: from untrusted folders to prepared shards."""
