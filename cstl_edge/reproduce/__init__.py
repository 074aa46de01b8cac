"""The paper's experiments again: tables of rows, trained, evaluated and compared; its pictures."""
