"""The report: result files in, one page that stands alone out.

`load` reads, `compare` tests, `sections` says what is shown of each scenario, `tables` and
`pictures` are how, `page` writes HTML and Markdown. Everything shown is computed from the raw
samples here; files come from other people's machines, so no text of theirs is trusted.
"""
