"""Sections of the report, one module per subject: tables, pictures and words from rows."""
