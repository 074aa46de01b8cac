#!/bin/sh
# Install the service into /opt/cstl-edge: the one set of steps of all images, and of a machine without them.
#
#   install.sh FLAVOUR WHEEL REQUIREMENTS     as root
#
# FLAVOUR       cpu: Debian 12, everything from the locked REQUIREMENTS (with hashes)
#               cuda: an image with CUDA and TensorRT's Python package in the system
#               jetpack6, jetpack7: the same of a Jetson, with the system's OpenCV
# WHEEL         cstl_edge-VERSION-py3-none-any.whl
# REQUIREMENTS  requirements/serve.txt
set -eu

flavour=$1 wheel=$2 requirements=$3
home=/opt/cstl-edge

case $flavour in
    cpu) packages="python3 python3-venv ca-certificates" ;;
    cuda) packages="python3 python3-venv ca-certificates" ;;
    jetpack6 | jetpack7) packages="python3 python3-venv ca-certificates python3-opencv" ;;
    *) echo "install.sh: expected cpu, cuda, jetpack6 or jetpack7; got $flavour" >&2; exit 2 ;;
esac
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086  # a list of packages
apt-get install -q -y --no-install-recommends $packages
rm -rf /var/lib/apt/lists/*

if [ "$flavour" = cpu ]; then
    python3 -m venv "$home"
else
    python3 -m venv --system-site-packages "$home" # TensorRT and OpenCV are the system's
fi
pip() { "$home/bin/python" -m pip --no-cache-dir --disable-pip-version-check "$@"; }
case $flavour in
    cpu)
        pip install --require-hashes -r "$requirements"
        pip install --no-deps "$wheel"
        ;;
    cuda) pip install "${wheel}[cv,secure,serve]" "cuda-bindings" ;;
    # JetPack 6: the system's OpenCV was built for numpy 1. No [cv]: a wheel would hide the OpenCV that opens csi:// cameras.
    jetpack6) pip install "${wheel}[secure,serve]" "numpy<2" "cuda-bindings<13" ;;
    jetpack7) pip install "${wheel}[secure,serve]" "cuda-bindings" ;;
esac

# PyAV's wheels carry x264 and x265, which are GPL: never in an image that is handed out.
if "$home/bin/python" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('av') is None)"; then
    echo "install.sh: PyAV got in" >&2
    exit 1
fi
"$home/bin/python" -m compileall -q "$home/lib" || true # the root is read-only later
ln -sf "$home/bin/cstl-edge" /usr/local/bin/cstl-edge
id cstl-edge >/dev/null 2>&1 || useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin cstl-edge
mkdir -p /data /config
chown cstl-edge:cstl-edge /data
chmod 0700 /data
