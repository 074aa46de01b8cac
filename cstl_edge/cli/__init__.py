"""Command line `cstl-edge`: `app` registers the verbs, one module per group of them."""
