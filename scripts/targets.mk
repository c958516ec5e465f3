# SPDX-License-Identifier: GPL-2.0-only
#
# Targets that need no kernel of this machine's own: they work in a Debian tree and a virtual
# machine, both made in ~/.cache/ovpn-dco. KERNEL=7.2 chooses another series of trixie-backports,
# DEBUG=1 the module with debug messages.

.PHONY: demo check check-debug check-long check-removals fuzz miri coverage vm bench bench-smp
demo:
	@scripts/demo

# Closes with the line `N passed, N failed`.
check:
	@scripts/check

# All of it on a kernel with KASAN, lockdep, kmemleak and faults on demand: about 70 min.
check-debug:
	@scripts/check --debug-kernel

# The floods and the churn, as long as they can be: an hour.
check-long:
	@scripts/check --long

# Each protection is taken out in turn, and its tests must fail: about 10 min.
check-removals:
	@scripts/removals

# The module and its rivals side by side: a table with ratios, JSON and a chart. One CPU, and a clock
# that counts instructions; bench-smp: two CPUs, and the time that passes.
bench:
	@scripts/bench

bench-smp:
	@scripts/bench --smp

# The protocol layer: fuzzing, FUZZ_SECONDS for each target; its tests in Miri; the lines they run.
FUZZ_SECONDS ?= 60
fuzz:
	@scripts/proto fuzz $(FUZZ_SECONDS)

miri coverage:
	@scripts/proto $@

# A shell in the virtual machine, with the module loaded.
vm:
	@scripts/host-setup
	@scripts/tree >/dev/null
	@scripts/vm

-include scripts/tests.mk
