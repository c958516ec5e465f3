#!/bin/bash
# Builds the sample kernel from an unpacked kernel source, with clang.
#
#   tests/qemu/build.sh SOURCE OUTPUT [CONFIG...]
#
# The CONFIG files beside this one that the kernel is configured with; default: config.net-next.
# With config.debug, too, it is the kernel for finding bugs. Needs what the kernel's
# Documentation/rust/quick-start.rst asks for. The kernel is OUTPUT/arch/x86/boot/bzImage.

set -euo pipefail

here=$(cd -- "$(dirname -- "$0")" && pwd -P)
if [ $# -lt 2 ]; then
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
	exit 2
fi
source=$1 output=$2
shift 2
[ $# -gt 0 ] || set -- config.net-next
[ -e "$source/Kbuild" ] || { echo "$source is not a kernel source" >&2; exit 1; }

kernel_make() {
	make -C "$source" O="$output" LLVM=1 "-j$(nproc)" "$@"
}

mkdir -p "$output"
(cd "$here" && cat "$@") >"$output/wishes"
kernel_make KCONFIG_ALLCONFIG="$output/wishes" allnoconfig
missing=$(grep '^CONFIG_' "$output/wishes" | grep -vxF -f "$output/.config" || true)
if [ -n "$missing" ]; then
	printf 'this source has no such setting, or something that it depends on is off:\n%s\n' "$missing" >&2
	exit 1
fi
kernel_make bzImage modules
