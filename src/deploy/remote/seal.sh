# RELEASE FILES: holds every file to the manifest on stdin; if all are whole, and no others are there, the release takes its name.
own
part=$prefix/releases/$1.part
cd "$part"
cat >.manifest || fail "$part/.manifest cannot be written: is the disk full?"
bad=$(sha256sum -c .manifest 2>/dev/null | sed -n 's/: FAILED.*$//p')
if [ -n "$bad" ]; then
  printf '%s\n' "$bad" | sed 's/^/bad /'
  exit 0
fi
found=$(find . -type f ! -path ./.manifest | wc -l)
[ "$found" -eq "$2" ] || fail "$part has $found files, and the release has $2"
flush .
cd ..
mv -T "$1.part" "$1"
flush .
say sealed
