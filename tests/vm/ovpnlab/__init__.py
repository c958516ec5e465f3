# SPDX-License-Identifier: GPL-2.0
"""What the demo and the tests in the virtual machine are made of.

One noun per file:

    command      run a program, with a time limit
    waiting      wait for a condition, with a time limit
    namespace    a network namespace
    network      veth pairs and a switch that join namespaces
    netlink      netlink messages, attributes and sockets, well formed or not
    link         network interfaces over rtnetlink, among them `ovpn-dco` ones
    family       the generic netlink family `ovpn-dco-v2`
    batch        many requests of it in one system call
    interface    an `ovpn-dco` interface ready for peers
    aead         AES-GCM and ChaCha20-Poly1305
    packet       IP packets
    wire         OpenVPN data channel endpoints in user space
    stream       the same over TCP: frames, connections, an endpoint
    tcp_peer     peers over TCP of an interface
    flow         one stream of TCP and its pauses
    vectors      packets with known answers
    tap          packets as they pass an interface, and packets put there
    capture      packets seen on an interface
    firewall     nftables rules and their counters
    ping, iperf  traffic and its figures
    pki          a certificate authority, made with openssl
    openvpn      OpenVPN daemons, their configuration and status files
    office       an OpenVPN server and two clients, ready to use
    race         tunnels that are torn down under traffic
    battery      the same requests for two modules, and what each answers
    module       loading and unloading of the kernel module
    memory       what the kernel uses for itself
    kernel_log   what the kernel complained about
    logs         what daemons and captures leave behind
    report       the demo's output

Nothing here needs more than Python's standard library and the programs of the
Debian tree (openvpn, openssl, iproute2, iputils, iperf3, nftables, tcpdump, kmod).
"""
