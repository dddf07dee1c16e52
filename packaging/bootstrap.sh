#!/usr/bin/env bash
# Sets up what the Makefile's targets need, on a machine with nothing but python3, make and git.
#
#   bootstrap.sh run        .venv with what the software needs (requirements.lock) and the `rocinante` command
#   bootstrap.sh dev        the same and what tests and checks need (requirements-dev.lock)
#   bootstrap.sh apt-test   the Debian packages of packaging/apt-test.txt
#   bootstrap.sh apt NAME…  these Debian packages
#
# Done once; a second run only compares a stamp (locks, pyproject.toml, place, Python) and is quick. A broken or half-made .venv is made again.
# Debian packages are installed as root; without root it says what is missing.
# PYTHON=… chooses the interpreter (3.11 or later).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
logs=.deps

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# Run a command; its output is shown only when it fails.
quietly() {
    local log="$logs/last-command.log"
    "$@" >"$log" 2>&1 </dev/null 9>&- && return 0
    say "failed: $*"
    tail -n 40 "$log" >&2
    return 1
}

apt_install() {
    [ "$(id -u)" = 0 ] || die "please install as root: apt-get install $*"
    command -v apt-get >/dev/null || die "please install what Debian calls: $*"
    say "installing with apt: $*"
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 # 1: a package without systemd starts no service
    quietly apt-get -q update || say "apt-get update failed; trying with the lists that are here"
    quietly apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends "$@"
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "no Python 3.11 or later (looked for: ${PYTHON:-python3 python3.13 python3.12 python3.11}); set PYTHON=…"
}

# Whether .venv works, and has the Python that was asked for (if one was).
usable() {
    local version='import pip, sys; print(sys.version)'
    [ "$("$venv/bin/python" -c "$version" 2>/dev/null || echo broken)" = \
        "$("${PYTHON:-$venv/bin/python}" -c "${version/pip, /}" 2>/dev/null)" ]
}

make_venv() {
    local python version
    python=$(find_python)
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install "python$version-venv"
    say "making $venv with Python $version"
    rm -rf "$venv"
    quietly "$python" -m venv "$venv"
}

# There is no ready-made plyvel for other processors than x86_64: pip compiles it.
need_compiler() {
    [ "$(uname -m)" != x86_64 ] || return 0
    if ! command -v g++ >/dev/null || [ ! -e /usr/include/leveldb/db.h ]; then
        apt_install g++ python3-dev libleveldb-dev
    fi
}

fill_venv() {
    local pip=("$venv/bin/python" -m pip --quiet --disable-pip-version-check --no-input)
    quietly "${pip[@]}" install --require-hashes --requirement "$1" &&
        quietly "${pip[@]}" install --no-deps --no-build-isolation --editable . &&
        quietly "$venv/bin/python" -m pip check
}

stamp_of() {
    { echo "$PWD"; "$venv/bin/python" -VV; cat requirements.lock "$1" pyproject.toml; } | sha256sum
}

set_up() {
    local profile=$1 lock=$2 existed=yes
    usable || { make_venv; existed=no; }
    if [ "$(cat "$venv/.stamp-$profile" 2>/dev/null)" = "$(stamp_of "$lock")" ]; then
        return
    fi
    need_compiler
    rm -f "$venv"/.stamp-*
    say "installing the packages of $lock"
    if ! fill_venv "$lock"; then
        [ $existed = yes ] || die "the packages of $lock could not be installed"
        say "making $venv again"
        make_venv
        fill_venv "$lock" || die "the packages of $lock could not be installed"
    fi
    # Whoever has what the tests need has what the software needs.
    stamp_of requirements.lock >"$venv/.stamp-run"
    stamp_of "$lock" >"$venv/.stamp-$profile"
}

apt_test() {
    local package tool only_on missing=() id
    id=$(. /etc/os-release && echo "$ID")
    while read -r package tool only_on; do
        [ -n "$package" ] || continue
        [ -z "$only_on" ] || [ "$only_on" = "$id" ] || continue
        command -v "$tool" >/dev/null || [[ $tool = /* && -e $tool ]] || missing+=("$package")
    done < <(sed 's/#.*//' packaging/apt-test.txt)
    [ ${#missing[@]} = 0 ] && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt_install "${missing[@]}" && stop_services "${missing[@]}"
    else
        say "tests that need these packages are skipped (install them as root): apt-get install ${missing[*]}"
    fi
}

apt_packages() {
    local package missing=()
    for package in "$@"; do
        [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

# Debian's etcd-server, redis-server and prometheus start a service when they are installed under systemd; the tests start
# their own. One that was there before is left alone.
stop_services() {
    local package service
    [ -d /run/systemd/system ] || return 0
    for package in "$@"; do
        case $package in
        etcd-server) service=etcd ;;
        redis-server) service=redis-server ;;
        prometheus) service=prometheus ;;
        *) continue ;;
        esac
        if systemctl --quiet is-active "$service"; then
            systemctl --quiet disable --now "$service"
        fi
    done
}

mkdir -p "$logs"
exec 9>"$logs/lock"
flock 9
case ${1:-} in
run) set_up run requirements.lock ;;
dev) set_up dev requirements-dev.lock ;;
apt-test) apt_test ;;
apt) apt_packages "${@:2}" ;;
*) die "use: $0 run|dev|apt-test|apt NAME…" ;;
esac
