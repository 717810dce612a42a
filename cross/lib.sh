# What the scripts of this folder share. Source it; `set -euo pipefail` is on afterwards.
set -euo pipefail
# what is made depends on nobody's settings
umask 022
export LC_ALL=C TZ=UTC
repository=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
# toolchains, roots, downloads: everything in it can be made again
store=${CATSEYE_CROSS:-${XDG_CACHE_HOME:-$HOME/.cache}/catseye-cross}

die() { echo "$(basename "$0"): $*" >&2; exit 1; }
say() { echo "$(basename "$0"): $*" >&2; }
# flags of compilers are told apart by spaces
case $repository$store${CARGO_HOME:-$HOME} in *[[:space:]]*) die "a path with a space in it: $repository, $store or ${CARGO_HOME:-$HOME}" ;; esac

# Debian's name of an architecture to the compilers' and to Rust's.
gnu_triple() { case $1 in arm64) echo aarch64-linux-gnu ;; amd64) echo x86_64-linux-gnu ;; *) die "no architecture '$1': arm64 or amd64" ;; esac; }
rust_target() { case $1 in arm64) echo aarch64-unknown-linux-gnu ;; amd64) echo x86_64-unknown-linux-gnu ;; *) die "no architecture '$1': arm64 or amd64" ;; esac; }

# The crate that brings TensorRT's headers of 11, and the lines of cross/tensorrt.lock, each with the folder of its headers.
trtx=trtx-sys-0.9.1+rtx1.7
tensorrt_lock() { # VERSION COMMIT COMMIT FOLDER
  local version tensorrt onnx
  while read -r version tensorrt onnx; do
    echo "$version $tensorrt $onnx $store/tensorrt/$version-${tensorrt:0:8}-${onnx:0:8}"
  done < <(grep -v '^#' "$repository/cross/tensorrt.lock")
}

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

# tool CRATE VERSION [ARGUMENTS]: a program of crates.io, in $store/tools/bin.
tool() {
  cargo install --quiet --locked --root "$store/tools" "$1@$2" "${@:3}"
}

# The version of this checkout, and the second of its commit, which every file of a package has.
version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$repository/Cargo.toml"; }
commit_epoch() { git -C "$repository" log -1 --format=%ct; }

# Lets the kernel start programs of arm64, in other roots too. F: the emulator is opened now, and needs not be in the other root;
# C: setuid counts. Fails where the kernel does not know it yet and nobody may tell it.
emulate_arm64() {
  local table=/proc/sys/fs/binfmt_misc emulator
  local magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  ! grep -qs '^flags:.*C.*F\|^flags:.*F.*C' $table/*aarch64* || return 0
  [ "$(id -u)" = 0 ] || return 1
  need qemu-aarch64-static qemu-user-static
  emulator=$(command -v qemu-aarch64-static)
  [ -e $table/register ] || mount -t binfmt_misc binfmt_misc $table || return 1
  # the newest entry is asked first
  echo ":catseye-aarch64:M::$magic:$mask:$emulator:FC" >$table/register
}
