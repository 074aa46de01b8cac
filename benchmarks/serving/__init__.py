"""What the benchmarks of the service share: a service that is started and looked into, clients."""
