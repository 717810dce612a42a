# RELEASE SECONDS KEEP: switches to the release, watches it, and goes back to the former one when it does not come up. All of it is
# one step, so that a connection that is lost now leaves the target with one that runs.
own
trap '' HUP PIPE
printf '%s\n' "$$" >"$prefix/lock/switch" || fail "nothing can be written into $prefix/lock: is the disk full?"
new=$1 seconds=$2 keep=$3
old=$(release_of current)
lines=20

unit_of() { cat "$prefix/releases/$1/etc/catseye/unit" 2>/dev/null || :; }
state_of() { systemctl show -p "$2" "$1" 2>/dev/null | sed "s/^$2=//"; }
put() { # FILE TO: a copy where the file is there and differs; `changed` says whether it did
  changed=
  [ -f "$1" ] && ! cmp -s "$1" "$2" || return 0
  [ -d "${2%/*}" ] || as_root mkdir -p "${2%/*}" || return 1
  as_root cp "$1" "$2" || return 1
  changed=yes
}

# The system's files of the release in use: units that run it, rules for devices, users and folders. The words of what is done as root
# are those that the plan names.
install_system() {
  tree=$prefix/current staged=$prefix/system
  rm -rf "$staged"
  mkdir -p "$staged" || return 1
  for unit in "$tree"/usr/lib/systemd/system/*.service; do
    [ -f "$unit" ] || continue
    name=${unit##*/}
    sed -e "s|/usr/bin/catseye|$prefix/current/usr/bin/catseye|g" \
      -e "s|/usr/share/catseye|$prefix/current/usr/share/catseye|g" \
      -e "s|/etc/catseye/rigs|$prefix/current/etc/catseye/rigs|g" \
      -e "s|CATSEYE_ENGINE_DIR=[^ ]*|CATSEYE_ENGINE_DIR=$prefix/engines|" -e "/^\[Service\]/a\\
Environment=CATSEYE_ENGINE_DIR=$prefix/engines" "$unit" >"$staged/$name" || return 1
    put "$staged/$name" "$root/etc/systemd/system/$name" || return 1
  done
  put "$tree/usr/lib/sysusers.d/catseye.conf" "$root/etc/sysusers.d/catseye.conf" || return 1
  if [ -n "$changed" ] && has systemd-sysusers; then as_root systemd-sysusers catseye.conf || return 1; fi
  put "$tree/usr/lib/tmpfiles.d/catseye.conf" "$root/etc/tmpfiles.d/catseye.conf" || return 1
  if [ -n "$changed" ] && has systemd-tmpfiles; then as_root systemd-tmpfiles --create catseye.conf || :; fi
  put "$tree/usr/lib/udev/rules.d/60-catseye.rules" "$root/etc/udev/rules.d/60-catseye.rules" || return 1
  if [ -n "$changed" ] && has udevadm; then as_root udevadm control --reload || :; fi
  # settings of this machine stay as they are
  for file in "$tree"/etc/catseye/*.env; do
    [ -e "$root/etc/catseye/${file##*/}" ] || put "$file" "$root/etc/catseye/${file##*/}" || return 1
  done
  as_root systemctl daemon-reload
}

switch_to() {
  ln -sfn "releases/$1" "$prefix/current.$$" && mv -T "$prefix/current.$$" "$prefix/current" || return 1
  flush "$prefix"
}

# BEFORE AFTER: the unit of one release gives way to that of the other. Fails where it does not start.
restart() {
  before=$(unit_of "$1") after=$(unit_of "$2")
  if [ -n "$before" ] && [ "$before" != "$after" ]; then as_root systemctl disable --now "$before" 2>/dev/null || :; fi
  [ -n "$after" ] || return 0
  as_root systemctl enable "$after" 2>/dev/null || :
  as_root systemctl restart "$after" || return 1
  # before anything that takes its time: what ends from now on has ended by itself
  restarts=$(state_of "$after" NRestarts)
}

healthy_unit() {
  unit=$(unit_of "$1")
  [ -n "$unit" ] || return 0
  passed=0
  while :; do
    state=$(state_of "$unit" ActiveState)
    if [ "$state" != active ]; then
      why="$unit is $state, $passed s after its start"
      return 1
    fi
    if [ "$(state_of "$unit" NRestarts)" != "$restarts" ]; then
      why="$unit ended and was started anew within $passed s"
      return 1
    fi
    [ "$passed" -lt "$seconds" ] || return 0
    sleep 1
    passed=$((passed + 1))
    say "watched $passed"
  done
}

healthy_program() {
  catseye=$prefix/current/usr/bin/catseye
  if ! words=$("$catseye" --version 2>&1); then
    why="catseye --version ends with an error"
    return 1
  fi
  say "version $words"
  for rig in "$prefix"/current/etc/catseye/rigs/*.toml; do
    [ -f "$rig" ] || continue
    if ! words=$("$catseye" rig check "$rig" 2>&1); then
      why="catseye rig check $rig ends with an error"
      return 1
    fi
  done
  words=
  if "$catseye" doctor --help >/dev/null 2>&1; then
    # what is wrong with the machine is told; it was so before, and going back would not mend it. The disk may be recorded to
    "$catseye" doctor --quiet --no-disk-test 2>/dev/null | sed -n "1,${lines}s/^/doctor /p" 2>/dev/null || :
  fi
}

tell_journal() {
  [ -z "${words:-}" ] || printf '%s\n' "$words" | sed -n "1,${lines}s/^/journal /p" 2>/dev/null || :
  unit=$(unit_of "$new")
  if has_systemd && [ -n "$unit" ]; then
    { as_root journalctl -u "$unit" -n "$lines" --no-pager -o cat 2>&1 || :; } | sed 's/^/journal /' 2>/dev/null || :
  fi
}

bring_up() { # OLD NEW
  words=
  if has_systemd && [ -n "$(unit_of "$1")$(unit_of "$2")" ]; then
    install_system || { why="its files could not be put into the system"; return 1; }
    if ! restart "$1" "$2"; then
      why="$(unit_of "$2") does not start"
      return 1
    fi
  fi
}

switch_to "$new" || fail "$prefix/current cannot be switched: is the disk full?"
say "switched $new"
why=
if bring_up "$old" "$new" && healthy_program && { ! has_systemd || healthy_unit "$new"; }; then
  link=$root/usr/local/bin/catseye
  if [ "$(readlink "$link" 2>/dev/null || :)" != "$prefix/current/usr/bin/catseye" ]; then
    { as_root mkdir -p "${link%/*}" && as_root ln -sfn "$prefix/current/usr/bin/catseye" "$link"; } 2>/dev/null || say "unlinked $link"
  fi
  if [ -n "$old" ] && [ "$old" != "$new" ]; then
    { ln -sfn "releases/$old" "$prefix/previous.$$" && mv -T "$prefix/previous.$$" "$prefix/previous"; } || say "unlinked $prefix/previous"
  fi
  touch "$prefix/releases/$new"
  current=$(release_of current) previous=$(release_of previous) kept=0
  ls -1t "$prefix/releases" | while IFS= read -r release; do
    case $release in
      "$current" | "$previous") kept=$((kept + 1)); continue ;;
      *.part) ;;
      *)
        kept=$((kept + 1))
        [ "$kept" -gt "$keep" ] || continue
        ;;
    esac
    rm -rf "${prefix:?}/releases/$release"
    say "removed $release"
  done
  say up
  exit 0
fi

say "failed $why"
tell_journal
if [ -n "$old" ] && [ "$old" != "$new" ] && [ -d "$prefix/releases/$old" ]; then
  switch_to "$old" || fail "$prefix/current cannot be switched back to $old: is the disk full?"
  if bring_up "$new" "$old"; then say "restored $old"; else say "broken $old: $why"; fi
else
  unit=$(unit_of "$new")
  if has_systemd && [ -n "$unit" ]; then as_root systemctl disable --now "$unit" 2>/dev/null || :; fi
  # a first release that does not run is no release in use; the same one once more stays, since there is no other
  [ -n "$old" ] || rm -f "$prefix/current"
  say "restored ${old:-none}"
fi
