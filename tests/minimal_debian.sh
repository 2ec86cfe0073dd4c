#!/usr/bin/env bash
# Runs the README's two commands, as written, in a minimal Debian with python3, python3-venv and git, and nothing else.
#
#   tests/minimal_debian.sh RELEASE [WHO] [WHAT]
#
#   RELEASE  bookworm (Debian 12) or trixie (Debian 13)
#   WHO      root (the default) or user, an ordinary one
#   WHAT     demo, tests, or both (the default)
#
# Needs root, debootstrap and unshare. Debian's packages come from debootstrap's own mirror, or $MIRROR. The system is
# kept in $ROOTS (/var/tmp/framesrv-debian) and made once; each run gets a fresh clone of the last commit in it. The
# way to the package index is the host's: its proxies, its certificates, $PIP_INDEX_URL.
set -euo pipefail
release=${1:?bookworm or trixie} who=${2:-root} what=${3:-both}
here=$(cd "$(dirname "$0")/.." && pwd)
root=${ROOTS:-/var/tmp/framesrv-debian}/$release
PICTURES=5 # that the demo must have shown before Ctrl-C ends it
export PICTURES

if [ ! -e "$root/ready" ]; then
  mkdir -p "$root"
  debootstrap --variant=minbase --include=python3,python3-venv,git "$release" "$root" ${MIRROR:+"$MIRROR"}
  chroot "$root" useradd --create-home --shell /bin/bash stranger
  touch "$root/ready"
fi

case $who in
  root) home=/root account=root ;;
  user) home=/home/stranger account=stranger ;;
  *) echo "WHO is root or user, not $who" >&2; exit 2 ;;
esac
rm -rf "${root:?}$home/framesrv"
git clone --quiet "$here" "$root$home/framesrv"
chroot "$root" chown -R "$account:" "$home"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
certificates=${PIP_CERT:-${SSL_CERT_FILE:-}}
if [ -n "$certificates" ]; then # of a host whose network has an authority of its own
  cp -L "$certificates" "$root/etc/host-certificates.crt"
  certificates=/etc/host-certificates.crt
fi

# What runs inside, as that account.
cat >"$root/try" <<'INSIDE'
set -euo pipefail
cd "$HOME/framesrv"
demo=$(grep -m1 -E '^python3 -m venv .*framesrv demo$' README.md)
tests=$(grep -m1 -E '^python3 -m venv .*pytest$' README.md)
if [ "$1" != tests ]; then
  echo "+ $demo"
  # in a session of its own, so that Ctrl-C reaches it alone
  setsid --wait bash -c "$demo" >demo.log 2>&1 &
  until [ "$(grep -c ' bytes  /' demo.log || true)" -ge "$PICTURES" ]; do
    kill -0 $! || { cat demo.log; echo "the demo has ended by itself"; exit 1; }
    sleep 1
  done
  pkill -INT -o -f 'bin/framesrv demo$' 2>/dev/null ||
    for process in /proc/[0-9]*; do # there is no pkill in a minimal system
      [[ $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) == *python*'bin/framesrv demo ' ]] && kill -INT "${process#/proc/}"
    done
  wait $! && echo "the demo has ended with 0" || { cat demo.log; echo "the demo has ended with $?"; exit 1; }
  tail -n 3 demo.log
  rm -rf .venv
fi
if [ "$1" != demo ]; then
  echo "+ $tests"
  bash -c "$tests"
fi
INSIDE

export root home account certificates what
exec unshare --mount --pid --ipc --uts --fork --kill-child --propagation private bash -euc '
  mount --bind "$root" "$root" # a root that is a mount of its own, as any system has
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  for node in null zero full random urandom tty; do touch "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
  mkdir "$root/dev/pts" "$root/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  exec chroot --userspec="$account:$account" "$root" env -i HOME="$home" PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 \
    PICTURES="$PICTURES" ${certificates:+PIP_CERT="$certificates"} ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} \
    ${PIP_DEFAULT_TIMEOUT:+PIP_DEFAULT_TIMEOUT="$PIP_DEFAULT_TIMEOUT"} \
    ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} ${no_proxy:+no_proxy="$no_proxy"} \
    bash /try "$what"'
