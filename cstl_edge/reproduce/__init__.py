"""Reproduction of the paper: its tables (rows trained, evaluated, compared) and its figures.

`rows` plans, trains and evaluates a row, `report` makes the tables, `figures` draws two
pictures.
"""
