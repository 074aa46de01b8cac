"""The benchmark suite: speed, power, accuracy, and nearness to the limits of the machine.

`record` defines rows of results, `context` the input of every scenario; `scenarios.open` lists the
scenarios, each a module with a function `rows(context)`. Letters as in the package: n sequences,
s frames, p parts.
"""
