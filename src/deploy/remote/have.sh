# RELEASE KEY...: says the sha256 of every file of the release in use (current), of what a lost connection left of this one (part), of
# this one (whole).
list() { # KEY FOLDER
  [ -d "$2/" ] || return 0
  (cd "$2/" && find . -type f ! -path ./.manifest -exec sha256sum {} + 2>/dev/null | sed -e 's|  \./| |' -e "s|^|$1 |") || :
}
release=$1
shift
for key in "$@"; do
  case $key in
    current) list current "$prefix/current" ;;
    part) list part "$prefix/releases/$release.part" ;;
    whole) list whole "$prefix/releases/$release" ;;
  esac
done
