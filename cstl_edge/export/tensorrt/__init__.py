"""TensorRT engines of an exported model: building, checks, records."""
