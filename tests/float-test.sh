#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# Lets a client change its address and its port under traffic: it must keep its tunnel.
#
#   float-test.sh [-6] [-k]
#
#   -6   IPv6 outside the tunnels
#   -k   leave everything as it is after a success, else it is removed
#
# The port changes as behind a router that translates addresses and has forgotten about the client.

set -euo pipefail
. "$(dirname -- "$0")/netns-lib.sh"

parse_options "$@"

# Of the pings that run all the time, so many may get no answer: a few for each change.
lost_at_most=9

move_address() {
	local from=$1 to=$2
	say "peer1 moves from $from to $to"
	add_address peer1 veth1 "$to"
	case $from in
	*:*) ip -n peer1 addr del "$from/64" dev veth1 ;;
	*) ip -n peer1 addr del "$from/24" dev veth1 ;;
	esac
}

# From now on the client's port looks like this from outside.
move_port() {
	say "the port of peer1 becomes $1"
	in_ns peer1 nft -f - <<-END
		table inet translation
		delete table inet translation
		table inet translation {
			chain out {
				type filter hook output priority raw
				udp sport $port udp sport set $1
			}
			chain in {
				type filter hook prerouting priority raw
				udp dport $1 udp dport set $port
			}
		}
	END
}

# is_at ADDRESS PORT: whether the server has noticed.
is_at() {
	[ "$(peer_says peer0 1 remote)" = "$(with_port "$1" "$2")" ]
}

check_moved() {
	until_true 10 "the server still believes that peer 1 is at $(peer_says peer0 1 remote)" is_at "$@"
	say "in peer0, peer 1 is at $(peer_says peer0 1 remote)"
	check_ping peer0 "$(inner 1)"
}

set_up 2 nft
# Else the addresses of a network go with the first of them.
in_ns peer1 sh -c 'echo 1 >/proc/sys/net/ipv4/conf/veth1/promote_secondaries'
add_udp_peers 2
check_ping peer1 "$(inner 0)"
check_peer peer0 1 remote "$(with_port "$(outer 1 2)" "$port")"

say "traffic from peer1 for the whole time"
ip netns exec peer1 ping -q -U -i 0.2 -w 120 "$(inner 0)" >"$temporary/traffic" &
traffic=$!
sleep 1
move_address "$(outer 1 2)" "$(outer 1 3)"
check_moved "$(outer 1 3)" "$port"
move_port 2194
check_moved "$(outer 1 3)" 2194
move_address "$(outer 1 3)" "$(outer 1 4)"
move_port 3194
check_moved "$(outer 1 4)" 3194
sleep 1
kill -INT "$traffic"
wait "$traffic" || true
say "$(grep transmitted "$temporary/traffic")"
read -r sent received < <(sed -n 's/^\([0-9]*\) packets transmitted, \([0-9]*\) received.*/\1 \2/p' "$temporary/traffic")
[ "$sent" -ge 10 ] || die "there was no traffic"
[ $((sent - received)) -le "$lost_at_most" ] || die "$((sent - received)) pings of $sent are lost"

check_ping peer1 "$(inner 0)"
check_ping peer2 "$(inner 0)"
check_peer peer0 2 remote "$(with_port "$(outer 2 2)" "$port")"
say "ok"
