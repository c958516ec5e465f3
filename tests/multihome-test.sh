#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# A server with several addresses must answer from the one that the client wrote to.
#
#   multihome-test.sh [-6] [-k]
#
#   -6   IPv6 outside the tunnels
#   -k   leave everything as it is after a success, else it is removed
#
# peer1 writes to the first address of the server's interface, peer2 to the second, and peer3 to one
# of another interface. All use the same socket of the server. The clients drop what comes from
# elsewhere.

set -euo pipefail
. "$(dirname -- "$0")/netns-lib.sh"

parse_options "$@"

# accept_only CLIENT ADDRESS
accept_only() {
	local family=ip
	[ "$ipv6" = 0 ] || family=ip6
	in_ns "peer$1" nft -f - <<-END
		table inet multihome {
			chain in {
				type filter hook input priority filter
				udp dport $port $family saddr != $2 counter drop
			}
		}
	END
}

check_client() {
	local server=$2 dropped
	say "peer$1 writes to $server"
	check_ping "peer$1" "$(inner 0)"
	check_ping peer0 "$(inner "$1")"
	check_peer "peer$1" "$1" remote "$(with_port "$server" "$port")"
	check_peer peer0 "$1" local "$(with_port "$server" "$port")"
	dropped=$(in_ns "peer$1" nft list ruleset | sed -n 's/.*counter packets \([0-9]*\) .*/\1/p')
	[ "$dropped" = 0 ] || die "$dropped packets came to peer$1 from another address than $server"
}

set_up 3 nft
servers=("$(outer 1 1)" "$(outer 2 7)" "$(outer 9 1)")
add_address peer0 veth2 "${servers[1]}"
add_address peer0 lo "${servers[2]}"
ip -n peer3 route add "${servers[2]}" via "$(outer 3 1)"
for p in 1 2 3; do
	accept_only "$p" "${servers[p - 1]}"
done
add_udp_peers 3 "${servers[@]}"
for p in 1 2 3; do
	check_client "$p" "${servers[p - 1]}"
done
say "ok"
