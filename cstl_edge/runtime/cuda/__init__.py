"""GPU memory, copies, streams and CUDA graphs through one protocol, on two libraries."""
