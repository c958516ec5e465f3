# shellcheck shell=bash disable=SC2034
# Shared by everything in scripts/: places, messages, time limits, locks and package installation.

scripts_dir=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
checkout=$(dirname -- "$scripts_dir")
program=$(basename -- "$0")

# Debian leaves the administrator's commands, such as chroot, out of a user's path.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# Everything that is made lives here; removing it loses nothing but time.
cache=${OVPN_DCO_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ovpn-dco}

# What the tree calls the places of the host that in-tree and vm put into it.
tree_checkout=/ovpn-dco
tree_build=/mnt/build
tree_results=/mnt/results
tree_cargo=/mnt/cargo

# Time since the outermost script began, so that the lines of a whole run count up.
export OVPN_DCO_STARTED=${OVPN_DCO_STARTED:-$EPOCHSECONDS}

say() {
	printf '[%3ds] %s: %s\n' "$((EPOCHSECONDS - OVPN_DCO_STARTED))" "$program" "$*" >&2
}

die() {
	say "error: $*"
	exit 1
}

# Prints the comment at the head of the calling script: its help is written once.
usage() {
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

# The DEBUG setting of make: 1, or nothing.
debug_setting() {
	case ${DEBUG:-} in
	1 | y) echo 1 ;;
	esac
}

# limit SECONDS WHAT COMMAND...: a time limit that says what was cut short. OVPN_DCO_DEADLINE, a time
# in seconds since 1970, is the limit of a whole run. The command goes when its script is killed.
limit() {
	local seconds=$1 what=$2 status=0
	shift 2
	if [ -n "${OVPN_DCO_DEADLINE:-}" ] && [ "$((OVPN_DCO_DEADLINE - EPOCHSECONDS))" -lt "$seconds" ]; then
		seconds=$((OVPN_DCO_DEADLINE - EPOCHSECONDS))
		[ "$seconds" -gt 0 ] || die "there is no time left for $what"
	fi
	setpriv --pdeathsig TERM timeout --foreground --kill-after=5 "$seconds" "$@" || status=$?
	if [ "$status" = 124 ] || [ "$status" = 137 ]; then
		say "error: $what did not finish within $seconds s and was stopped"
		return 124
	fi
	return "$status"
}

# logged LOG WHAT COMMAND...: output into LOG; its end is shown only after a failure.
logged() {
	local log=$1 what=$2
	shift 2
	"$@" </dev/null >>"$log" 2>&1 && return
	tail -n 25 "$log" >&2
	die "$what failed. The whole output is in $log"
}

# lock NAME: one process at a time; the others wait. Held until the script ends.
lock() {
	local fd
	mkdir -p "$cache/lock"
	exec {fd}>"$cache/lock/$1"
	flock --nonblock "$fd" && return
	say "waiting for another run that holds $cache/lock/$1"
	flock --timeout 3600 "$fd" || die "another run has held $cache/lock/$1 for an hour. End it and try again."
}

# The files of the checkout that are not made by a build, one a line.
sources() {
	cd "$checkout"
	if [ -e .git ] && command -v git >/dev/null; then
		GIT_OPTIONAL_LOCKS=0 git -c safe.directory='*' -c core.fsmonitor=false -c core.quotePath=false \
			ls-files --cached --others --exclude-standard
	else
		find . -type f ! -path './.git/*' ! -path '*/target/*' ! -name '*.o' ! -name '*.ko' \
			! -name '*.cmd' ! -name '*.mod*' ! -name '*.rmeta' ! -name '*.pyc' -printf '%P\n'
	fi | while IFS= read -r file; do
		[ ! -f "$file" ] || printf '%s\n' "$file"
	done | sort -u
}

# apt_install PACKAGE...: installs on the host as root or with sudo, else says what to do.
apt_install() {
	local as_root=() apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
	if [ "$(id -u)" != 0 ]; then
		if ! sudo -n true 2>/dev/null; then
			die "packages are missing. Run as root: apt-get install --no-install-recommends $*"
		fi
		as_root=(sudo -n)
	fi
	say "installing $*"
	mkdir -p "$cache/log"
	logged "$cache/log/apt.log" 'apt-get update' \
		limit 300 'apt-get update' "${as_root[@]}" "${apt[@]}" update
	logged "$cache/log/apt.log" "apt-get install $*" limit 900 'apt-get install' \
		"${as_root[@]}" "${apt[@]}" install --no-install-recommends "$@"
}

# missing_packages PACKAGE...: prints those that dpkg does not have.
missing_packages() {
	local package
	for package in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
			printf '%s\n' "$package"
	done
}

# Private mounts and processes; without root, in a user namespace of one's own, too.
namespaces=(unshare --mount --pid --fork --kill-child --propagation private)
if [ "$(id -u)" != 0 ]; then
	namespaces+=(--user --map-root-user --map-auto)
fi

# Where host-setup puts virtme-ng, in the version that scripts/vm knows how to call.
vng_version=1.42
vng_home=$cache/virtme-ng-$vng_version

# Prints the path of virtme-ng's command, if it is installed.
vng_path() {
	if [ -x "$vng_home/bin/vng" ]; then
		echo "$vng_home/bin/vng"
	fi
}

# tree_install FILE PACKAGE...: installs packages in the tree, unless FILE is there.
tree_install() (
	file=$1 root=$("$scripts_dir/tree" --print-path)
	shift
	[ ! -e "$root/$file" ] || return 0
	lock packages
	[ ! -e "$root/$file" ] || return 0
	say "putting $* into the tree"
	mkdir -p "$cache/log"
	# shellcheck disable=SC2016 # expanded in the tree
	logged "$cache/log/packages.log" "installing $*" "$scripts_dir/in-tree" --net --rw --cwd / --timeout 900 -- sh -euc '
		apt-get -q -o Acquire::Retries=3 -o APT::Sandbox::User=root update
		apt-get -q -y -o Acquire::Retries=3 -o APT::Sandbox::User=root install --no-install-recommends "$@"
		apt-get clean' sh "$@"
)

# removal_says WORD NAME: the values of the lines of tests/removals/NAME.patch that begin with the word.
removal_says() {
	sed -n "/^diff /q; s/^$1: //p" "$checkout/tests/removals/$2.patch"
}
