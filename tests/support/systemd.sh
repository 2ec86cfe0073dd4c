#!/usr/bin/env bash
# Runs a real systemd as PID 1 in its own namespaces, over a private root in memory. Needs root; tests/support/systemd.py
# is the handle on it.
#
#   systemd.sh SETUP [DIRECTORY[=PLACE]...]
#
# Boots to testbed.target and stays until that systemd ends or this script is killed. The host's /usr is seen
# read-only, and so is each DIRECTORY, under its own path or at PLACE. /etc has the host's passwd, group and ld.so
# files; SETUP, a script, is run in the new root before the boot. /var, /run, /tmp and /dev/shm are private, the
# network is the host's.
#
# With $SYSTEM, a directory, the root is that one: what is written lies over it in memory. It has no network.
#
# Never boot a systemd over the host's own root: its tmpfiles rules would empty the real /tmp.
set -euo pipefail
setup=$1 system=${SYSTEM:-}
shift
hierarchy=/sys/fs/cgroup
[ -d $hierarchy/unified ] && hierarchy=$hierarchy/unified
cgroup=$hierarchy/framesrv-test-$$
mkdir "$cgroup"
root=$(mktemp -d)
clean() {
  find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
  rmdir "$root"
}
trap clean EXIT
trap 'exit 1' TERM INT

boot() {
  echo 0 >"$cgroup/cgroup.procs"
  # from here on a cgroup namespace whose root is our own
  exec unshare --cgroup ${system:+--net} bash -euc "$(declare -f show own_root inside); inside \"\$@\"" bash "$root" "$setup" "$@"
}

show() { # DIRECTORY[=PLACE], read-only
  local from=${1%%=*} to=.${1##*=}
  mkdir -p "$to"
  mount --bind "$from" "$to"
  mount -o remount,bind,ro "$to"
}

own_root() { # of the host's /usr
  mkdir -p usr etc/systemd/system proc sys dev run tmp opt var/log var/lib root home old
  for link in bin sbin lib lib64; do
    if [ -L /$link ]; then cp -a /$link ./; elif [ -d /$link ]; then show /$link; fi
  done
  show /usr
  for file in ld.so.cache ld.so.conf ld.so.conf.d nsswitch.conf hosts resolv.conf passwd group alternatives; do
    [ ! -e /etc/$file ] || cp -a /etc/$file etc/
  done
}

inside() {
  root=$1 setup=$2
  shift 2
  umask 022
  mount -t tmpfs -o mode=755,size=2g tmpfs "$root"
  cd "$root"
  if [ -n "$system" ]; then
    mkdir upper work merged
    mount -t overlay -o "lowerdir=$system,upperdir=$root/upper,workdir=$root/work" overlay merged
    cd merged
    mkdir -p old
  else
    own_root
  fi
  mount -t tmpfs -o mode=1777 tmpfs tmp
  for directory in "$@"; do show "$directory"; done
  echo testbed >etc/hostname
  echo uninitialized >etc/machine-id
  printf '[Unit]\nDescription=Test bed\nRequires=basic.target\nAfter=basic.target\n' >etc/systemd/system/testbed.target
  mount -t proc proc proc
  mount --bind proc/sys proc/sys
  mount -o remount,bind,ro proc/sys
  mount -t sysfs -o ro sysfs sys
  mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  mount -t tmpfs -o mode=755 tmpfs dev
  for node in null zero full random urandom tty; do
    touch dev/$node
    mount --bind /dev/$node dev/$node
  done
  mkdir -p dev/shm dev/pts
  mount -t tmpfs -o mode=1777,size=512m tmpfs dev/shm
  mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  mount -t tmpfs -o mode=755 tmpfs run
  hostname testbed
  cp "$setup" setup
  pivot_root . old
  cd /
  umount -l /old
  rmdir /old
  [[ $(stat -f -c %T /) == @(tmpfs|overlayfs) ]] || {
    echo "the root is not private: stopped" >&2
    exit 9
  }
  bash -eu /setup
  rm /setup
  exec setpriv --bounding-set=-sys_module,-sys_time,-sys_rawio,-mknod,-syslog,-audit_control \
    env -i container=testbed PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=testbed.target --log-target=journal --log-level=info
}

export root setup system cgroup
# ends with this script, even if that is killed
setpriv --pdeathsig KILL unshare --pid --mount --uts --ipc --fork --kill-child --propagation private \
  bash -euc "$(declare -f boot show own_root inside); boot \"\$@\"" bash "$@" &
wait $! || true
