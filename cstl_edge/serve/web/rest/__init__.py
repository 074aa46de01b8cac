"""REST of the service: a table of operations, from which routes and OpenAPI are made."""
