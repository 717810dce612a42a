# Says what the target is, and changes nothing.
say "machine $(uname -m)"
say "kernel $(uname -sr)"
glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null || ldd --version 2>/dev/null | sed -n 1p || :)
say "glibc ${glibc##* }"
for tool in tar gzip sha256sum df find sed cmp readlink sync; do has "$tool" || say "missing $tool"; done
# a link that leads to a folder is only replaced by rename(2) with -T
case $(mv --help 2>&1 || :) in *-T*) ;; *) say "missing mv -T" ;; esac

if [ -r /etc/os-release ]; then say "system $(. /etc/os-release && printf '%s' "${PRETTY_NAME:-}")"; fi
if [ -r /etc/nv_tegra_release ]; then say "l4t $(sed -n 1p /etc/nv_tegra_release)"; fi
if [ -r /etc/nvidia/version-ubuntu-rootfs.txt ]; then say "drive $(sed -n 1p /etc/nvidia/version-ubuntu-rootfs.txt)"; fi
if [ -r /proc/device-tree/compatible ]; then say "compatible $(tr '\0' ' ' </proc/device-tree/compatible)"; fi
if has nvidia-smi; then
  gpu=$(nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader 2>/dev/null | sed -n 1p || :)
  say "gpu $gpu"
fi
library() { # KEY FILE: where the first of that name lies, in the order in which the loader looks
  for place in /usr/lib/*-linux-gnu/nvidia /usr/lib/*-linux-gnu/tegra /usr/lib/*-linux-gnu /usr/lib /usr/local/cuda/lib64 /usr/lib64; do
    for file in "$place/$2"*; do
      [ -e "$file" ] || continue
      say "$1 $(readlink -f "$file")"
      return 0
    done
  done
}
library libcuda libcuda.so.1
library nvinfer libnvinfer.so.

place=$(existing "$prefix")
say "free_kib $(df -Pk "$place" | { read -r _; read -r _ _ _ free _; printf '%s' "$free"; })"
say "clock $(date +%s.%N)"
say "user $(id -un 2>/dev/null || id -u)"
say "uid $(id -u)"
if [ -d "$prefix" ] && [ -w "$prefix" ]; then say "writable yes"; fi
if has sudo && sudo -n true 2>/dev/null; then say "sudo yes"; fi
if has_systemd; then say "systemd yes"; fi
say "current $(release_of current)"
say "previous $(release_of previous)"
for release in "$prefix"/releases/*; do
  [ -d "$release" ] && say "release ${release##*/}"
done
if [ -r "$prefix/current/etc/catseye/unit" ]; then say "unit $(cat "$prefix/current/etc/catseye/unit")"; fi
