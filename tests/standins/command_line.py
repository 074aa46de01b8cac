"""The command line in this process, for tests in which the process itself is not tested."""

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace
from unittest.mock import patch

from cstl_edge.cli.app import main


def call(*words, cwd=None):
    """Run the command line; return what a finished process has: returncode, stdout, stderr."""
    out, err, code, before = io.StringIO(), io.StringIO(), 0, os.getcwd()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            os.chdir(cwd or before)
            with patch.object(sys, "argv", ["cstl-edge", *map(str, words)]):
                main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            os.chdir(before)
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())
