"""A machine for child processes: put `site(folder)` on the path, and `tensorrt` and CUDA are found.

What the machine is, or does instead of building, stands in `machine.json` of that folder.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

MODULES = {
    "tensorrt.py": "import standin_site; standin_site.take_place(__file__, __name__)\n",
    "cuda/__init__.py": "",
    "cuda/bindings/__init__.py": "__version__ = '12.9'\n",
    "cuda/bindings/runtime.py": "import standin_site\n"
    "standin_site.take_place(__file__, __name__)\n",
}
CREATOR = ("CstlPartGather", "2", "cstl_edge")


def site(folder, **machine):
    """Write the modules and what the machine is; return the folder."""
    for name, text in MODULES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "machine.json").write_text(json.dumps(machine))
    return folder


def state_of(machine):
    """Return the state of the stand-in of TensorRT that a machine describes."""
    from standin_cuda import Device
    from standin_tensorrt import State

    device = Device(**machine.get("device", {}))
    state = State(device, {path: [CREATOR] for path in machine.get("plugins", [])})
    state.start_error = machine.get("start_error")
    does = machine.get("build")
    if does:
        state.build = lambda logger, config: _instead(does, logger, config)
    return state


def take_place(file, name):
    """Be imported in the place of a real module."""
    from standin_cuda import bindings
    from standin_tensorrt import make

    folder = Path(file).resolve()
    while not (folder / "machine.json").exists():
        folder = folder.parent
    machine = json.loads((folder / "machine.json").read_text())
    state = state_of(machine)
    sys.modules.update(bindings(state.device))
    sys.modules["tensorrt"] = make(state, machine.get("version", "10.3.0"))
    assert name in sys.modules


def _instead(does, logger, config):
    """Do what a builder does that gives no engine."""
    if does == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "abort":
        sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
        sys.stderr.flush()
        os.abort()
    if does == "never end":
        config.progress_monitor.phase_start("Building", None, 10**6)
        for step in range(10**6):
            time.sleep(0.1)
            if not config.progress_monitor.step_complete("Building", step):
                break
    logger.log(1, "no implementation for node")
    return None
