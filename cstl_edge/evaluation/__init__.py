"""Protocols and metrics of gait recognition in numpy, for any encoder.

`held_out` loads the test people, `embed` computes their embeddings, `evaluate` the metrics of a
protocol (`closed_set`, `open_set`), `tables` formats them; `cstl-edge eval` is all four. Letters:
`m` sequences, `s` frames, `p` parts, `d` embedding dimensions.
"""
