"""A disk that is full: files may not grow beyond a limit, which fails like one."""

import resource
from contextlib import contextmanager


@contextmanager
def small_disk(file_bytes):
    """Let every write beyond so many bytes of a file fail; Python ignores SIGXFSZ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
