"""The service's page: door, live pictures, pages and REST."""
