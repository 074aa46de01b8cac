"""The paper's experiments again: rows of its tables trained, evaluated and compared; its pictures."""
