#!/bin/bash
# Starts a kernel in qemu, with a directory as its root and a shell, or one command, as all that runs.
#
#   tests/qemu/launch_deb2.sh KERNEL ROOT [COMMAND]
#
# KERNEL is the bzImage that build.sh makes, or that of any kernel that has virtio and 9p built in; ROOT
# is a Debian tree, such as the one that `scripts/tree --print-path` names, which is only read. Without
# COMMAND: a shell on this terminal; leave with exit. CPUS (2) and MEMORY (2G) may be set, KVM=1 uses
# hardware virtualisation, SHARE is a directory that the guest sees as /mnt/build, read-only (a module that
# was built for this kernel). The exit status is the command's.

set -euo pipefail

if [ $# -lt 2 ]; then
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
	exit 2
fi
kernel=$1 root=$2 command=${3:-}
command -v qemu-system-x86_64 >/dev/null || { echo "qemu-system-x86_64 is missing: apt install qemu-system-x86" >&2; exit 1; }
[ -e "$kernel" ] || { echo "there is no kernel $kernel; build.sh makes one" >&2; exit 1; }
[ -x "$root/bin/sh" ] || { echo "$root is not a Debian tree" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/init" <<'INIT'
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t 9p -o trans=virtio,version=9p2000.L,ro share /mnt/build 2>/dev/null
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
ip link set lo up
status=0
if [ -s /mnt/results/command ]; then
	sh /mnt/results/command || status=$?
else
	setsid sh -c 'exec sh -i </dev/ttyS0 >/dev/ttyS0 2>&1'
fi
echo "$status" >/mnt/results/status
sync
echo o >/proc/sysrq-trigger
# No program is run any more: the files may be gone before the power is.
while :; do :; done
INIT
chmod +x "$work/init"
printf '%s' "$command" >"$work/command"

# With page tables of five levels, KASAN complains if an interrupt comes while the kernel identifies the
# processor, for whose levels it asks then.
cpu=(-cpu max,la57=off)
[ "${KVM:-0}" != 1 ] || cpu=(-enable-kvm -cpu host)
# The tree is only read: the place for what is written, and for init, is mounted over /mnt/results,
# before there is an init to do it; the kernel's shell does that.
qemu-system-x86_64 -machine q35 "${cpu[@]}" -smp "${CPUS:-2}" -m "${MEMORY:-2G}" -nographic -no-reboot \
	-kernel "$kernel" \
	-fsdev "local,id=root,path=$root,security_model=none,readonly=on,multidevs=remap" \
	-device virtio-9p-pci,fsdev=root,mount_tag=/dev/root \
	${SHARE:+-fsdev "local,id=share,path=$SHARE,security_model=none,readonly=on" -device virtio-9p-pci,fsdev=share,mount_tag=share} \
	-fsdev "local,id=work,path=$work,security_model=none" \
	-device virtio-9p-pci,fsdev=work,mount_tag=work \
	-append "console=ttyS0 root=/dev/root rootfstype=9p rootflags=trans=virtio,version=9p2000.L,ro panic=-1 quiet init=/bin/sh -- -c \"mount -t devtmpfs dev /dev; mount -t 9p -o trans=virtio,version=9p2000.L work /mnt/results && exec /mnt/results/init\""
exit "$(cat "$work/status" 2>/dev/null || echo 1)"
