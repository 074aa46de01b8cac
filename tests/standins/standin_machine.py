"""Files of /proc and /sys as machines have them, written below a folder."""

from cstl_edge.measure.linux import SysfsTree

CPU = "sys/devices/system/cpu"
THERMAL = "sys/class/thermal"


def grow(root, **files):
    """Write files below `root`; in names, `__` is a slash."""
    for name, text in files.items():
        put(root, name.replace("__", "/"), text)
    return SysfsTree(root)


def put(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(f"{text}\n")


def policy(root, number, low, high, now, governor="schedutil"):
    """One group of cores; clocks in kHz, as the kernel gives them."""
    folder = f"{CPU}/cpufreq/policy{number}"
    for name, value in (("min", low), ("max", high), ("cur", now)):
        put(root, f"{folder}/scaling_{name}_freq", value)
    put(root, f"{folder}/scaling_governor", governor)


def cooling(root, number, kind, state):
    put(root, f"{THERMAL}/cooling_device{number}/type", kind)
    put(root, f"{THERMAL}/cooling_device{number}/cur_state", state)


def nvpmodel(root, says, code=0):
    path = root / "usr/sbin/nvpmodel"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n[ "$*" = -q ] || exit 9\ncat <<END\n{says}\nEND\nexit {code}\n')
    path.chmod(0o755)
