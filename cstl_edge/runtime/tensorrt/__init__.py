"""TensorRT: engines that `cstl-edge build` made for this machine, run as an `Encoder`."""
