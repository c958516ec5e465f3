# SPDX-License-Identifier: GPL-2.0-only
#
# What differs from one kernel to the next is asked of the kernel tree here, and told
# to the crate as `cfg(...)`. Nothing else in this project knows a kernel's version.

# $(call ovpn-probe,CFG,PATTERN,FILE): CFG is set if FILE of the kernel tree has PATTERN.
ovpn-probe = $(if $(shell grep -qE -e '$(2)' $(srctree)/$(3) 2>/dev/null && echo y),--cfg $(1))

ovpn-compat-rustflags :=
