# WHO: holds the lock for as long as lines come on stdin, each of which is written down as a sign of life. Says which
# release is in use now.
who=$1
[ -d "$prefix" ] || as_root mkdir -p "$prefix"
[ -w "$prefix" ] || as_root chown "$(id -u)" "$prefix"
mkdir -p "$prefix/releases"
lock=$prefix/lock
if ! mkdir "$lock" 2>/dev/null; then
  [ -d "$lock" ] || fail "$lock cannot be made: $(mkdir "$lock" 2>&1 || :)"
  say "busy $(cat "$lock/token" 2>/dev/null || :) $(cat "$lock/beat" 2>/dev/null || :)"
  say "owner $(cat "$lock/owner" 2>/dev/null || :)"
  exit 0
fi
release() {
  trap '' HUP INT TERM
  while is_switching "$lock"; do
    date >"$lock/beat" || :
    sleep 1
  done
  [ "$(cat "$lock/token" 2>/dev/null)" != "$token" ] || rm -rf "$lock"
}
trap release EXIT
trap 'exit 1' HUP INT TERM
if ! { printf '%s\n' "$token" >"$lock/token" && printf '%s\n' "$who, since $(date)" >"$lock/owner"; } 2>/dev/null; then
  rm -rf "$lock"
  fail "nothing can be written into $lock: is the disk full?"
fi
say "held $(release_of current)"
while IFS= read -r beat; do printf '%s\n' "$beat" >"$lock/beat" || :; done
