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

# nginx for `cargo bench --bench delivery`, which starts one of its own: the one that Debian's package starts is not wanted.
install_nginx() {
    has nginx && return 0
    apt_install nginx-light || return 1
    if [ -d /run/systemd/system ]; then
        as_root systemctl disable --now nginx >/dev/null 2>&1 || true
    else
        as_root service nginx stop >/dev/null 2>&1 || true
        as_root update-rc.d nginx disable >/dev/null 2>&1 || true
    fi
}
