# SPDX-License-Identifier: GPL-2.0-only
#
# make                      build for the running kernel
# make KERNEL_SRC=DIR       build for the kernel tree DIR; any other kernel make
#                           argument is passed on
# make DEBUG=1              with debug messages and the cipher `none`
# make install              to updates/ below the modules directory, then depmod
#                           (INSTALL_MOD_PATH is honoured)

KERNEL_RELEASE ?= $(shell uname -r)
PWD := $(abspath $(dir $(firstword $(MAKEFILE_LIST))))

# The tree that scripts/kernel-metadata made, if it did, else the distribution's own.
metadata-tree = $(shell $(PWD)/scripts/kernel-metadata --print-path $(KERNEL_RELEASE) 2>/dev/null)
KERNEL_SRC ?= $(firstword $(wildcard $(metadata-tree)) /lib/modules/$(KERNEL_RELEASE)/build)

KBUILD_ARGS = -C $(KERNEL_SRC) M=$(PWD) $(if $(DEBUG),DEBUG=$(DEBUG))

.PHONY: all modules install clean
all: modules

modules: | kernel-tree
	$(MAKE) $(KBUILD_ARGS) modules

install: modules
	$(MAKE) $(KBUILD_ARGS) INSTALL_MOD_DIR=updates modules_install
	depmod $(if $(INSTALL_MOD_PATH),-b $(INSTALL_MOD_PATH)) \
		$$($(MAKE) -s --no-print-directory -C $(KERNEL_SRC) kernelrelease)

clean:
	$(MAKE) $(KBUILD_ARGS) clean

# A kernel tree without Rust metadata fails deep inside rustc; say what to do instead.
.PHONY: kernel-tree
kernel-tree:
	@test -e $(KERNEL_SRC)/Makefile || { \
		echo "No kernel tree at $(KERNEL_SRC). Install the kernel's headers" \
		     "(Debian: apt install linux-headers-$(KERNEL_RELEASE)) or say make KERNEL_SRC=DIR." >&2; exit 1; }
	@test -e $(KERNEL_SRC)/rust/libkernel.rmeta || { \
		echo "The kernel tree $(KERNEL_SRC) has no Rust metadata (rust/libkernel.rmeta)." >&2; \
		echo "Debian leaves it out of its header packages. Make it once with:" >&2; \
		echo "    sudo $(PWD)/scripts/kernel-metadata $(KERNEL_RELEASE)" >&2; exit 1; }

-include scripts/targets.mk
