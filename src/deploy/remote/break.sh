# OTHER: takes the lock OTHER of a deploy of which nothing was heard any more, and ends what it was still writing.
lock=$prefix/lock broken=$prefix/lock.$$
[ "$(cat "$lock/token" 2>/dev/null || :)" = "$1" ] || fail "the lock has another owner by now"
! is_switching "$lock" || fail "it is switching releases"
mv -T "$lock" "$broken" 2>/dev/null || fail "the lock has another owner by now"
receiver=$(cat "$broken/receiver" 2>/dev/null || :)
if [ -n "$receiver" ]; then
  case $(readlink "/proc/$receiver/cwd" 2>/dev/null || :) in
    "$prefix"/releases/*.part) kill "$receiver" 2>/dev/null || : ;;
  esac
fi
rm -rf "$broken"
say broken
