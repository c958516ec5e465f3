# SPDX-License-Identifier: GPL-2.0-only
#
# make tests                build the test tool: tests/ovpn-cli
#                           (CARGO and CARGO_TARGET_DIR are honoured)

tests-dir := $(abspath $(dir $(lastword $(MAKEFILE_LIST)))../tests)
ovpn-cli-dir := $(tests-dir)/cli

CARGO ?= cargo
tests-target = $(or $(CARGO_TARGET_DIR),$(ovpn-cli-dir)/target)

.PHONY: tests clean-tests
tests:
	$(CARGO) build --release --locked --manifest-path $(ovpn-cli-dir)/Cargo.toml \
		--target-dir $(tests-target)
	install -m 755 $(tests-target)/release/ovpn-cli $(tests-dir)/ovpn-cli

clean: clean-tests
clean-tests:
	rm -rf $(tests-dir)/ovpn-cli $(ovpn-cli-dir)/target
