# RELEASE: whether its program starts here at all.
if words=$("$prefix/releases/$1/usr/bin/catseye" --version 2>&1); then
  say "version $words"
else
  code=$?
  say "unable $code"
  printf '%s\n' "$words" | sed -n '1,20s/^/words /p'
fi
