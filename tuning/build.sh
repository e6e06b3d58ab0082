# Sourced by tuning/build-deb and tuning/release: programs, man pages and completions, the same bytes wherever and whenever they are made of
# one commit by one toolchain.
# shellcheck shell=bash

. tests/install.sh

# Of a tarball of the source: SOURCE_DATE_EPOCH and EVERGATE_COMMIT say what git would.
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
export EVERGATE_COMMIT="${EVERGATE_COMMIT:-$(git rev-parse --short=12 HEAD)}"
export LC_ALL=C TZ=UTC

target=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
# release, or dev for a quick look.
profile="${PROFILE:-release}"
programs="$target/$([ "$profile" = dev ] && echo debug || echo "$profile")"
# What is generated, for the package and the tarball. cargo-deb is told of it by paths that begin with target/.
made="$target/package"

# Where the source lies must not be told from the programs. Debug information is left out; the names of functions stay, for backtraces.
build_programs() {
    local cargo_home="${CARGO_HOME:-$HOME/.cargo}"
    if [ "$profile" != dev ]; then
        export RUSTFLAGS="--remap-path-prefix=$target=/evergate/target --remap-path-prefix=$PWD=/evergate --remap-path-prefix=$cargo_home=/cargo \
--remap-path-prefix=$(rustc --print sysroot)=/rust"
        export CARGO_PROFILE_RELEASE_STRIP=debuginfo CARGO_PROFILE_RELEASE_DEBUG=none CARGO_INCREMENTAL=0
    fi
    cargo build --locked --quiet --profile "$profile" --features load --bins
}

# Everything else that is installed and not in the source as it stands.
build_pages() {
    rm -rf "$made"
    mkdir -p "$made/completions"
    local evergate="$programs/evergate"
    "$evergate" man "$made/man"
    # gzip writes neither name nor time with -n.
    gzip -9 -n "$made"/man/*.1
    local program
    for program in evergate evergate-load; do
        "$evergate" completions bash "$program" >"$made/completions/$program.bash"
        "$evergate" completions zsh "$program" >"$made/completions/_$program"
        "$evergate" completions fish "$program" >"$made/completions/$program.fish"
    done
    "$evergate" config --sample >"$made/evergate.toml.sample"
    gzip -9 -n <CHANGELOG.md >"$made/changelog.gz"
    build_sbom
}

# Every crate that is linked in, with version, licence and checksum (CycloneDX). Its serial number and time are drawn anew each time: the
# time is that of the commit here, the number is left out, which the format allows. What it says of our own crates holds their place on disk.
build_sbom() {
    install_cargo cargo-cyclonedx 0.5.9 || { say "cargo-cyclonedx is missing: cargo install cargo-cyclonedx"; return 1; }
    cargo cyclonedx --format json --spec-version 1.5 --features load --target x86_64-unknown-linux-gnu --override-filename evergate.cdx --quiet
    # One is written for each member of the workspace, beside its manifest.
    python3 - evergate.cdx.json "$made/evergate.cdx.json" "$PWD" <<'PYTHON'
import json, os, sys, time
source, goal, here = sys.argv[1:]
text = open(source).read().replace(here, "/evergate")
bom = json.loads(text)
bom.pop("serialNumber", None)
bom["metadata"]["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"])))
with open(goal, "w") as file:
    json.dump(bom, file, indent=1, sort_keys=True)
    file.write("\n")
PYTHON
    find . -name evergate.cdx.json -not -path './target/*' -delete
}

# A cargo subcommand of this version, built once where it is missing.
install_cargo() {
    cargo "${1#cargo-}" --version 2>/dev/null | grep -q -F "$2" && return 0
    say "building $1 (once, a minute)"
    # Neither its flags nor its profile are those of the programs.
    env -u RUSTFLAGS -u CARGO_TARGET_DIR cargo install "$1" --version "$2" --locked --quiet </dev/null
}
