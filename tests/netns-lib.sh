# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Shared by netns-test.sh, float-test.sh and multihome-test.sh: a server in the namespace peer0 and
# clients in peer1, peer2 …, each connected to the server by a veth pair of its own.
#
# Outside the tunnel, client P has host 2 of network P, and the server host 1. Inside, the server has
# 5.5.5.1, client P 5.5.5.(P + 1). A script sets `ipv6` to 1 to have IPv6 outside,
# and `keep` to leave everything as it is at the end.
#
# OVPN_CLI is the test tool, ALG the cipher (aes, chachapoly …).

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
program=$(basename -- "$0")
key=$here/data64.key
cipher=${ALG:-aes}
port=1194
ipv6=0

say() {
	printf '%s: %s\n' "$program" "$*"
}

die() {
	printf '%s: error: %s\n' "$program" "$*" >&2
	exit 1
}

# Prints the comment at the head of the calling script: its help is written once.
usage() {
	sed -n '3,/^$/s/^# \{0,1\}//p' "$0"
}

# parse_options ARGUMENT...: -6 and -k, all that most scripts take.
parse_options() {
	local option
	keep=''
	while getopts 6kh option; do
		case $option in
		6) ipv6=1 ;;
		k) keep=1 ;;
		h) usage; exit ;;
		*) usage >&2; exit 2 ;;
		esac
	done
}

# step SECONDS COMMAND...: nothing may hang.
step() {
	local seconds=$1 status=0
	shift
	timeout --kill-after=5 "$seconds" "$@" || status=$?
	[ "$status" != 124 ] || die "this took longer than $seconds s: $*"
	return "$status"
}

# in_ns NAMESPACE COMMAND...
in_ns() {
	local namespace=$1
	shift
	step 20 ip netns exec "$namespace" "$@"
}

# cli NAMESPACE ARGUMENT...: the test tool, on the interface tun0.
cli() {
	local namespace=$1
	shift
	in_ns "$namespace" "$ovpn_cli" tun0 "$@"
}

# until_true SECONDS WHAT COMMAND...: waits for something to become true.
until_true() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || die "$what"
		sleep 0.1
	done
}

# The tool as `make tests` left it, in the build directory of the virtual machine or here.
find_ovpn_cli() {
	local candidate
	for candidate in "${OVPN_CLI:-}" \
		"${OVPN_DCO_BUILD:+$OVPN_DCO_BUILD/tests/ovpn-cli}" \
		"$here/ovpn-cli"; do
		if [ -n "$candidate" ] && [ -x "$candidate" ]; then
			realpath -- "$candidate"
			return
		fi
	done
	die "there is no ovpn-cli. Build it with: make tests"
}

load_module() {
	[ ! -e /sys/module/ovpn_dco_v2 ] || return 0
	if [ -n "${OVPN_DCO_KO:-}" ]; then
		modprobe -aq udp_tunnel ip6_udp_tunnel gro_cells dst_cache libchacha libpoly1305 || true
		insmod "$OVPN_DCO_KO"
	else
		modprobe ovpn-dco-v2
	fi || die "the kernel module ovpn-dco-v2 cannot be loaded"
}

# prepare COMMAND...: what every script needs, and the named commands.
prepare() {
	local command
	[ "$(id -u)" = 0 ] || die "this needs root"
	for command in ip ping timeout "$@"; do
		command -v "$command" >/dev/null || die "the command $command is missing"
	done
	ovpn_cli=$(find_ovpn_cli)
	load_module
	clean_up
	temporary=$(mktemp -d)
	trap at_exit EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# outer NETWORK HOST: an address outside the tunnel.
outer() {
	if [ "$ipv6" = 1 ]; then
		echo "fd10:0:0:$1::$2"
	else
		echo "10.10.$1.$2"
	fi
}

# inner PEER: its address inside the tunnel.
inner() {
	echo "5.5.5.$(($1 + 1))"
}

# with_port ADDRESS PORT: as get_peer prints it.
with_port() {
	case $1 in
	*:*) echo "[$1]:$2" ;;
	*) echo "$1:$2" ;;
	esac
}

# add_address NAMESPACE INTERFACE ADDRESS
add_address() {
	case $3 in
	*:*) ip -n "$1" addr add "$3/64" dev "$2" nodad ;;
	*) ip -n "$1" addr add "$3/24" dev "$2" ;;
	esac
}

# make_namespaces N: the server and N clients, connected, with interfaces but without peers.
make_namespaces() {
	local p
	for p in $(seq 0 "$1"); do
		ip netns add "peer$p"
		ip -n "peer$p" link set lo up
		if [ "$p" = 0 ]; then
			cli peer0 new_iface mp
		else
			ip link add "veth$p" netns peer0 type veth peer name "veth$p" netns "peer$p"
			add_address peer0 "veth$p" "$(outer "$p" 1)"
			add_address "peer$p" "veth$p" "$(outer "$p" 2)"
			ip -n peer0 link set "veth$p" up
			ip -n "peer$p" link set "veth$p" up
			cli "peer$p" new_iface p2p
		fi
		ip -n "peer$p" addr add "$(inner "$p")/24" dev tun0
		ip -n "peer$p" link set tun0 up
	done
}

# set_up N COMMAND...: the server and N clients, without peers; the script needs the commands.
set_up() {
	local clients=$1
	shift
	prepare "$@"
	say "setting up a server and $clients clients"
	make_namespaces "$clients"
}

# add_keys NAMESPACE DIRECTION PEER...
add_keys() {
	local namespace=$1 direction=$2 p
	shift 2
	for p in "$@"; do
		cli "$namespace" new_key "$p" "$cipher" "$direction" "$key"
	done
}

# add_udp_server N: makes clients 1 to N known to the server, over one socket.
add_udp_server() {
	local p
	for p in $(seq 1 "$1"); do
		echo "$p $(outer "$p" 2) $port $(inner "$p")"
	done >"$temporary/peers"
	cli peer0 new_multi_peer "$port" "$temporary/peers"
	# shellcheck disable=SC2046 # one argument each
	add_keys peer0 0 $(seq 1 "$1")
}

# add_udp_client P [SERVER]: makes the server known to a client.
add_udp_client() {
	cli "peer$1" new_peer "$port" "$1" "${2:-$(outer "$1" 1)}" "$port" "$(inner 0)"
	add_keys "peer$1" 1 "$1"
}

# add_udp_peers N [SERVER...]: both; the clients know the server by these addresses, one each.
add_udp_peers() {
	local p clients=$1
	shift
	add_udp_server "$clients"
	for p in $(seq 1 "$clients"); do
		add_udp_client "$p" "${@:p:1}"
	done
}

# check_ping NAMESPACE ADDRESS: whether the tunnel works in both directions. With -U ping asks for no
# time stamps: for these the kernel changes its own code, which it does not always survive where
# several processors are emulated.
check_ping() {
	say "ping from $1 to $2"
	in_ns "$1" ping -q -U -i 0.2 -c 3 -w 10 "$2" >"$temporary/ping" ||
		die "no answer from $2 to $1: $(tail -n 2 "$temporary/ping")"
	in_ns "$1" ping -q -U -i 0.2 -c 2 -w 10 -s 1300 "$2" >"$temporary/ping" ||
		die "no answer from $2 to $1 to large packets: $(tail -n 2 "$temporary/ping")"
}

# peer_says NAMESPACE PEER LABEL: what get_peer prints behind that label.
peer_says() {
	cli "$1" get_peer "$2" | sed -n "s/^  $3: //p"
}

# check_peer NAMESPACE PEER LABEL VALUE
check_peer() {
	local value
	value=$(peer_says "$1" "$2" "$3")
	[ "$value" = "$4" ] || die "in $1, peer $2 has the $3 $value instead of $4"
	say "in $1, peer $2 has the $3 $value"
}

no_process_in() {
	[ -z "$(ip netns pids "$1")" ]
}

# Removes what this script or an earlier run of it has left.
clean_up() {
	local namespace
	for namespace in $(ip netns list | awk '$1 ~ /^peer[0-9]+$/ { print $1 }'); do
		ip -n "$namespace" link del tun0 2>/dev/null || true
		until_true 10 "processes are left in $namespace: $(ip netns pids "$namespace" | tr '\n' ' ')" \
			no_process_in "$namespace"
		ip netns del "$namespace"
	done
}

# What is there stays if `keep` is set, unless something has failed.
at_exit() {
	local status=$?
	trap - EXIT
	[ "$status" = 0 ] || say "failed" >&2
	rm -rf "$temporary"
	if [ "$status" != 0 ] || [ -z "$keep" ]; then
		# shellcheck disable=SC2046 # one argument each
		kill $(jobs -p) 2>/dev/null || true
		clean_up
	fi
	exit "$status"
}
