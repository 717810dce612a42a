# Says which of the commands on stdin the user may not run as root without a password.
while IFS= read -r line; do
  # words of commands hold no spaces
  # shellcheck disable=SC2086
  sudo -n -l $line >/dev/null 2>&1 </dev/null || say "refused $line"
done
