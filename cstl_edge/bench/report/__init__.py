"""Report of the benchmark suite: result files in, one self-contained page out.

`load` reads and groups files, `compare` tests two sides, `rows` and `formatting` write rows and
numbers as text, `tables` and `charts` show them, `sections` holds one module per subject, `build`
puts a page together, and `page` writes HTML and Markdown. Everything shown is computed from the
raw samples here; files come from other people's machines, so no text of theirs is trusted.
"""
