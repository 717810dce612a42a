# Turns the variables of cross/env to the compiler, the C library and the TensorRT headers of a DRIVE OS 6 PDK. Sourced by cross/build.
# DRIVE_OS_PDK is the workspace that NVIDIA's SDK manager or its containers make (there: /drive), with toolchains/ and drive-linux/.

[ -n "${DRIVE_OS_PDK:-}" ] || die "the profile drive needs a DRIVE OS 6 PDK, which only NVIDIA hands out: set DRIVE_OS_PDK to the folder
  that holds toolchains/ and drive-linux/ (/drive in NVIDIA's containers). Without one, the profile jetson makes binaries with the same
  floor of glibc 2.31; they lack what only the PDK has (SIPL cameras)"
# 6.0.1 to 6.0.5 bring Bootlin's gcc 9.3, under a name with its date
pdk_gcc=$(ls -d "$DRIVE_OS_PDK"/toolchains/aarch64--glibc--stable-*/bin/aarch64-buildroot-linux-gnu-gcc 2>/dev/null | sort | tail -n 1 || true)
[ -n "$pdk_gcc" ] || die "$DRIVE_OS_PDK/toolchains: no aarch64--glibc--stable-*/bin/aarch64-buildroot-linux-gnu-gcc in it"
pdk_root=$DRIVE_OS_PDK/drive-linux/filesystem/targetfs
[ -d "$pdk_root" ] || die "$pdk_root is missing: the target's file system comes with the PDK's package nv-driveos-linux-driveos-core-rfs or its runfile"
pdk_headers=$pdk_root/usr/include/aarch64-linux-gnu
[ $gpu = 0 ] || [ -f "$pdk_headers/NvInferVersion.h" ] || die "$pdk_headers/NvInferVersion.h is missing: install the PDK's TensorRT into the target's file system, or give --no-gpu"

export CC_aarch64_unknown_linux_gnu=$pdk_gcc CXX_aarch64_unknown_linux_gnu=${pdk_gcc%gcc}g++
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$pdk_gcc
export CATSEYE_TENSORRT_INCLUDE=$pdk_headers
# gcc 9.3 does not know Orin's cortex-a78ae; of what it knows the cortex-a76 is the nearest, with the same instructions
if ! "$pdk_gcc" -mcpu=cortex-a78ae -x c -E /dev/null >/dev/null 2>&1; then
  export CFLAGS_aarch64_unknown_linux_gnu=${CFLAGS_aarch64_unknown_linux_gnu/cortex-a78ae/cortex-a76}
  export CXXFLAGS_aarch64_unknown_linux_gnu=${CXXFLAGS_aarch64_unknown_linux_gnu/cortex-a78ae/cortex-a76}
fi
