# What all steps share. A step is this text and its own, run as `sh -c TEXT catseye-deploy PREFIX ROOT TOKEN ARGUMENT...` under POSIX sh.
# It prints lines `key value`; what goes wrong is a line `error WORDS`. ROOT is empty but in tests, where it stands before /etc and /usr.
set -eu
umask 022
LC_ALL=C
export LC_ALL
prefix=$1 root=$2 token=$3
shift 3

# a laptop that is gone ends no step that goes on without it
say() { printf '%s\n' "$*" 2>/dev/null || :; }
fail() {
  say "error $*"
  exit 3
}
as_root() {
  if [ -n "$root" ] || [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}
has() { command -v "$1" >/dev/null 2>&1; }
has_systemd() { [ -d "$root/run/systemd/system" ] && has systemctl; }
# the nearest folder above that is there
existing() {
  place=$1
  while [ ! -d "$place" ]; do place=${place%/*} place=${place:-/}; done
  printf '%s\n' "$place"
}
release_of() { # LINK: the release that it leads to
  target=$(readlink "$prefix/$1" 2>/dev/null || :)
  printf '%s\n' "${target##*/}"
}
# a deploy whose lock another one took must not go on
own() {
  [ "$(cat "$prefix/lock/token" 2>/dev/null || :)" = "$token" ] || fail "another deploy took the lock: nothing was heard of this one for too long"
}
# LOCK: its deploy is switching releases, which goes on without the laptop. Nobody else may switch meanwhile.
is_switching() {
  switch=$(cat "$1/switch" 2>/dev/null || :)
  [ -n "$switch" ] && grep -qs catseye-deploy "/proc/$switch/cmdline"
}
# onto the disk: this file system alone where that can be said, since a recorder may be writing to others
flush() { sync -f "$1" 2>/dev/null || sync; }
