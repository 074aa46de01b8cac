"""The benchmark suite: how fast, at what power, how accurate, how near to what the machine can do.

`record` is what a result is, `context` what every scenario is given; each scenario is one module
with a function `rows(context)`. Letters as in the package: n sequences, s frames, p parts.
"""
