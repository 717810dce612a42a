# RELEASE: prepares its folder as stdin says: `clear` of all, `drop PATH` of what is not whole there,
# `link MODE FROM TO` of what the release in use has.
own
part=$prefix/releases/$1.part
mkdir -p "$part" || fail "$part cannot be made: is the disk full?"
linked=0 copied=0
while read -r what mode from to; do
  case $what in
    clear) rm -rf "$part" && mkdir "$part" ;;
    drop) rm -f "$part/$mode" ;;
    link)
      case $to in */*) mkdir -p "$part/${to%/*}" ;; esac
      # a link shares the mode: another one needs a copy
      is_program=644
      [ ! -x "$prefix/current/$from" ] || is_program=755
      if [ "$is_program" = "$mode" ] && ln "$prefix/current/$from" "$part/$to" 2>/dev/null; then
        linked=$((linked + 1))
      else
        cp "$prefix/current/$from" "$part/$to" 2>/dev/null || fail "$part/$to cannot be written: is the disk full?"
        chmod "$mode" "$part/$to"
        copied=$((copied + 1))
      fi
      ;;
    *) fail "stage: unknown line $what" ;;
  esac
done
say "linked $linked"
say "copied $copied"
