# What the scripts of this folder share. Source it; `set -euo pipefail` is on afterwards.
set -euo pipefail
repository=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
# toolchains, roots, downloads: everything in it can be made again
store=${CATSEYE_CROSS:-${XDG_CACHE_HOME:-$HOME/.cache}/catseye-cross}

die() { echo "$(basename "$0"): $*" >&2; exit 1; }
say() { echo "$(basename "$0"): $*" >&2; }

# Debian's name of an architecture to the compilers' and to Rust's.
gnu_triple() { case $1 in arm64) echo aarch64-linux-gnu ;; amd64) echo x86_64-linux-gnu ;; *) die "no architecture '$1': arm64 or amd64" ;; esac; }
rust_target() { case $1 in arm64) echo aarch64-unknown-linux-gnu ;; amd64) echo x86_64-unknown-linux-gnu ;; *) die "no architecture '$1': arm64 or amd64" ;; esac; }

# need COMMAND PACKAGE...: installs the packages where the command is missing.
need() {
  local command=$1; shift
  command -v "$command" >/dev/null && return
  command -v apt-get >/dev/null || die "$command is missing, and this is no Debian or Ubuntu: install what $* hold"
  [ "$(id -u)" = 0 ] || die "$command is missing: sudo apt-get install $*"
  say "installing $*"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# fetch URL FILE SHA256: a file whose bytes are known.
fetch() {
  [ -f "$2" ] && echo "$3  $2" | sha256sum --check --status && return
  mkdir -p "$(dirname "$2")"
  curl --fail --silent --show-error --location --retry 3 -o "$2.part" "$1" || return 1
  echo "$3  $2.part" | sha256sum --check --status || die "$1: SHA-256 is $(sha256sum <"$2.part" | cut -d' ' -f1), expected $3"
  mv "$2.part" "$2"
}
