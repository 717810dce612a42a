# Says which of the commands on stdin the user may not run as root without a password, with full paths, as sudo's rules have them.
# in tests as_root needs no root
[ -z "$root" ] || exit 0
while IFS= read -r line; do
  # what is not there is not run, and sudo's rules cannot name it
  program=$(command -v "${line%% *}") || continue
  # words of commands hold no spaces
  # shellcheck disable=SC2086
  sudo -n -l $line >/dev/null 2>&1 </dev/null || say "refused $program ${line#* }"
done
