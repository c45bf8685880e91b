#!/usr/bin/env bash
# Builds the one static binary that is shipped, and shows that it is one. Needs only Rust and a C compiler.
#
#   scripts/release.sh [TARGET]      default: this machine's, e.g. x86_64-unknown-linux-gnu
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
target=${1:-$host}
case $target in
    *-linux-*) ;;
    *)
        echo "release: a static binary can be built for Linux only, not for $target" >&2
        exit 64
        ;;
esac

# With --target the flags reach only what is shipped, not build scripts and procedural macros, which can't be static.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
    cargo build --profile dist --locked --bin waxwing --target "$target"

binary=${CARGO_TARGET_DIR:-target}/$target/dist/waxwing
if LC_ALL=C readelf -lW "$binary" 2>/dev/null | grep -q INTERP; then
    echo "release: $binary still asks for a dynamic loader" >&2
    exit 1
fi
if [ "$target" = "$host" ]; then
    "$binary" --version
fi
ls -l "$binary"
