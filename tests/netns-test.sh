#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Brings up tunnels between network namespaces, and pings through them.
#
#   netns-test.sh [-6] [-t] [-c] [N]
#
#   -6   IPv6 outside the tunnels
#   -t   over TCP
#   -c   remove everything afterwards, else it is left to play with; after a failure it always goes
#   N    how many clients; default: $NUM_PEERS, else 2
#
# The server is peer0 with 5.5.5.1/24, the clients are peer1 with 5.5.5.2/24, peer2 with 5.5.5.3/24 …:
#   ip netns exec peer0 ping 5.5.5.2

set -euo pipefail
. "$(dirname -- "$0")/netns-lib.sh"

tcp=0 keep=1
while getopts 6tch option; do
	case $option in
	6) ipv6=1 ;;
	t) tcp=1 ;;
	c) keep='' ;;
	h) usage; exit ;;
	*) usage >&2; exit 2 ;;
	esac
done
shift $((OPTIND - 1))
clients=${1:-${NUM_PEERS:-2}}

is_listening() {
	[ -n "$(in_ns peer0 ss -Hltn "sport = :$port")" ]
}

# The server takes the connections in the order in which they come.
add_tcp_peers() {
	local p listener
	for p in $(seq 1 "$clients"); do
		echo "$p $(inner "$p")"
	done >"$temporary/peers"
	timeout 60 ip netns exec peer0 "$ovpn_cli" -v tun0 listen "$port" "$temporary/peers" &
	listener=$!
	until_true 10 "nobody listens in peer0" is_listening
	for p in $(seq 1 "$clients"); do
		cli "peer$p" connect "$p" "$(outer "$p" 1)" "$port" "$(inner 0)"
		add_keys "peer$p" 1 "$p"
	done
	wait "$listener" || die "the server failed"
	# shellcheck disable=SC2046 # one argument each
	add_keys peer0 0 $(seq 1 "$clients")
}

check_clients() {
	local p packets
	for p in $(seq 1 "$clients"); do
		check_ping peer0 "$(inner "$p")"
		check_ping "peer$p" "$(inner 0)"
		packets=$(peer_says peer0 "$p" 'VPN RX packets')
		[ "$packets" -ge 10 ] || die "the server counts only $packets packets from peer $p"
	done
}

set_up "$clients" ss
if [ "$tcp" = 1 ]; then
	add_tcp_peers
else
	add_udp_peers "$clients"
fi
check_clients
say "what the server knows of its peers:"
cli peer0 get_peer
if cli peer0 get_peer $((clients + 1)) 2>"$temporary/error"; then
	die "the server tells of a peer that it does not have"
fi
say "of another one: $(cat "$temporary/error")"
say "ok"
