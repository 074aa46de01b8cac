"""Plots of the report: strips, stacks, forests and scatters as inline SVG."""
