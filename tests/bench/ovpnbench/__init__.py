# SPDX-License-Identifier: GPL-2.0
"""What the benchmark is made of, beside `tests/vm/ovpnlab`.

One noun per file:

    clock        time in a machine that counts instructions
    site         two namespaces joined by a cable
    rivals       the tunnels that are compared, ready to use
    kernel_ovpn  the kernel's own driver: generic netlink family `ovpn`
    wireguard    WireGuard: generic netlink family `wireguard`
    userspace    OpenVPN without any offload
    load         TCP, UDP and pings through a tunnel, and their figures
    record       the figures of a run, as a table and as JSON
    chart        the figures as a drawing
    profile      where the instructions go
    batch        many netlink requests at once
    scale        many peers
"""
