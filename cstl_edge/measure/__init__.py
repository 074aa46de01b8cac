"""Timers, percentiles and the record of the machine they ran on. Knows no model.

`stats` has percentiles and JSON lines, `timing` times calls, `environment` records the machine,
`conditions` samples clocks, load and temperatures around a measurement (from `linux`, `jetson` and
`nvml`), `warnings` names what makes a figure unreliable, and `tables` has the model of a table.
"""
