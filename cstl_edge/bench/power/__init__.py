"""Power meters, their recordings, and the workloads that run under them."""
