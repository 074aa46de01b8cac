"""Nearness to the limit: what this machine can do at most, what each graph needs at least.

Rows of three kinds, told apart by `details["kind"]`, all of scenario `roofline`:

`arithmetic`  a kernel's rate. `values`: `gmacs_per_s` (10^9 multiply-adds per second; twice that is
              GFLOP/s). `details`: `precision` (float32, tf32, float16, bfloat16, int8), `device`
              (`cpu` or `gpu`), `kernel`. `contender`: `peak float32: openvino convolution`.
`bandwidth`   a copy's or a read's rate. `values`: `gbytes_per_s` (read and written bytes both
              count), `megabytes` (all that it goes over). `details`: `device`, `kernel`, `level`:
              `memory`, `l3` or `l2`, the nearest that holds it.
`cost`        a graph's need. `case`: graph, batch, frames, hop, as in the rows of times. `values`:
              `gmacs`, `gmacs_float32`, `gmacs_int8`, ... (by the type that the file multiplies),
              `gbytes` (inputs, weights and outputs once: the least), `gbytes_weights` (of them) and
              `gbytes_between` (tensors between nodes if none were fused). `details`: `precision`
              (float32, float16, int8: of the file). `contender`: `cost float32`.

The peak of a precision is the best of its kernels, for a limit must hold for every one. `limits` is
made once from all rows of a run; `limits.of(row)` lays a row of times against it:

    limits = Limits(rows)
    found = limits.of(row)          # None where nothing was counted or no peak was measured
    found.share                     # 0..1, of the attainable: least_ms / median
    found.least_ms, found.reached_gmacs_per_s, found.attainable_gmacs_per_s
    found.intensity                 # multiply-adds per byte: x of the roofline picture
    found.bound                     # "arithmetic" or "bandwidth"
    limits.peak(device, precision)  # gmacs_per_s of the roof's flat part, None if not measured
    limits.bandwidth(device, level) # gbytes_per_s of its slopes, None if not measured

Model: a call takes no less than its multiply-adds at their peaks, and no less than its least bytes
at the bandwidth of the nearest level that holds them all (back to back they stay there).
"""
