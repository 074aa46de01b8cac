#!/usr/bin/env bash
# Run the install steps of the CPU image in a fresh Debian 12, without any image registry, and the service in it as the image would: as its
# user, with a read-only root. Then lint what is here, with the linters that are found.
#
#   sudo deploy/check_install.sh [FOLDER]     needs debootstrap, root, an apt mirror and a package index; about five minutes
#
# FOLDER keeps the fresh system (system.tar) for the next call. The certificates and pip settings of this machine are taken along.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
kept=${1:-}
work=$(mktemp -d)
root=$work/root
clean() { umount -l "$root/data" "$root/tmp" "$root/proc" "$root/dev" "$root" 2>/dev/null || true; rm -rf --one-file-system "$work"; }
trap clean EXIT
step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

step "wheel"
python=$top/.venv/bin/python
[ -x "$python" ] || python=python3
"$python" -m build --wheel --outdir "$work/wheel" "$top" >/dev/null
ls "$work/wheel"

step "fresh Debian 12"
mkdir -p "$root"
if [ -n "$kept" ] && [ -f "$kept/system.tar" ]; then
    tar -C "$root" -xf "$kept/system.tar"
else
    debootstrap --variant=minbase bookworm "$root" >"$work/debootstrap.log" 2>&1 || { tail "$work/debootstrap.log"; exit 1; }
    if [ -n "$kept" ]; then mkdir -p "$kept"; tar -C "$root" -cf "$kept/system.tar" .; fi
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp -r /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
mkdir -p "$root/etc/ssl/certs" "$root/usr/local/share/ca-certificates" "$root/tmp/install"
cp -r /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/"
cp "$work"/wheel/*.whl "$top/requirements/serve.txt" "$top/deploy/containers/install.sh" "$root/tmp/install/"
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev" && mount --make-rslave "$root/dev"

step "install.sh cpu"
wheel=$(basename "$work"/wheel/*.whl)
# pip's own certificates do not know a company's proxy; Debian's bundle does, once ca-certificates is installed
chroot "$root" /usr/bin/env PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_QUIET=1 \
    sh /tmp/install/install.sh cpu "/tmp/install/$wheel" /tmp/install/serve.txt
rm -rf "$root/tmp/install"
cp "$top/deploy/containers/healthcheck.py" "$root/opt/cstl-edge/healthcheck.py"
sed -e 's/host: mosquitto/host: 127.0.0.1/' "$top/deploy/site.example.yaml" >"$root/config/site.yaml"
mkdir -p "$root/run/secrets"
(umask 022; echo "correct horse battery staple" >"$root/run/secrets/password")
du -sh "$root/opt/cstl-edge" "$root" 2>/dev/null || true

step "as the image: user 10001, read-only root, tmpfs"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=0700,uid=10001,gid=10001 tmpfs "$root/data"
mount -o remount,ro,bind "$root"
inside=(chroot --userspec=10001:10001 "$root" /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/data XDG_CACHE_HOME=/data/cache
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1)
if "${inside[@]}" sh -c 'touch /opt/cstl-edge/x' 2>/dev/null; then echo "the root can be written"; exit 1; fi
"${inside[@]}" cstl-edge --version
"${inside[@]}" cstl-edge config check /config/site.yaml
"${inside[@]}" cstl-edge serve /config/site.yaml >"$work/serve.log" 2>&1 &
service=$!  # the service itself: chroot and env become it
healthy=no
for _ in $(seq 120); do
    if "${inside[@]}" /opt/cstl-edge/bin/python /opt/cstl-edge/healthcheck.py 2>/dev/null; then healthy=yes; break; fi
    kill -0 "$service" 2>/dev/null || break
    sleep 1
done
kill -TERM "$service" 2>/dev/null || true
code=0; wait "$service" || code=$?
cat "$work/serve.log"
echo "healthy: $healthy; after SIGTERM: exit code $code"
if [ "$healthy" != yes ] || [ "$code" != 143 ]; then exit 1; fi # an && list would not end this script

step "linters"
for tool in "hadolint -c $top/deploy/containers/hadolint.yaml $top/deploy/containers/Containerfile.cpu $top/deploy/containers/Containerfile.cuda $top/deploy/containers/Containerfile.jetson" \
    "shellcheck $top/deploy/containers/install.sh $top/deploy/check_install.sh" \
    "promtool check config $top/deploy/prometheus/prometheus.yml"; do
    if command -v "${tool%% *}" >/dev/null; then $tool && echo "${tool%% *}: no finding"; else echo "${tool%% *} is not installed: left out"; fi
done
step "done"
