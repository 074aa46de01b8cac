"""Nothing phones home: no import asks a resolver or leaves a file in the home folder."""

import os
import re
import shutil
import subprocess
import sys

import pytest

SHORT_DEMO = (
    "from pathlib import Path; clip = Path(cstl_edge.__file__).parent / 'assets' / 'walk.mp4'; "
    "print(len(list(cstl_edge.read_walks(clip))))"
)
OPTIONAL = (
    "from importlib import import_module\nfrom importlib.util import find_spec\n"
    "for name in ('torch', 'cv2', 'onnx', 'onnxruntime', 'onnxslim', 'sklearn.manifold', 'av'):\n"
    "    find_spec(name.partition('.')[0]) and import_module(name)\n"
    "if find_spec('openvino'):\n"
    "    from cstl_edge.runtime.backends.openvino import core\n    core()\n"
)


def run_in_a_fresh_home(tmp_path, code):
    """Run code; return the files in HOME and the calls to other machines (None without strace)."""
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-c", f"import cstl_edge\n{code}"]
    strace, calls = shutil.which("strace"), tmp_path / "calls"
    if strace:
        trace = ["-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg"]
        command = [strace, *trace, "-o", str(calls), *command]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_", "MPL"))}
    done = subprocess.run(
        command, env={**env, "HOME": str(home)}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-500:]
    files = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    lines = calls.read_text(errors="replace").splitlines() if strace else None
    return files, lines and [line for line in lines if re.search(r"AF_INET6?\b", line)]


def test_no_dependency_leaves_a_file_or_asks_anybody(tmp_path):
    files, calls = run_in_a_fresh_home(tmp_path, OPTIONAL)
    assert not files
    assert not calls


@pytest.mark.slow
def test_the_short_form_of_the_demo_leaves_nothing_and_asks_nobody(tmp_path):
    """A walk out of a video, with the person-mask network, the encoder and every child process."""
    files, calls = run_in_a_fresh_home(tmp_path, SHORT_DEMO)
    assert not files
    if calls is None:
        pytest.skip("strace is not installed: only the files were looked at")
    assert calls == []
