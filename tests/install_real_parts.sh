#!/bin/sh
# The real parts that tests drive: installed where this is a Debian system and we are root,
# otherwise named. A test whose part is missing is skipped and says which part it was.
set -eu

missing=""
need() { # need PACKAGE COMMAND...
    package=$1
    shift
    for command in "$@"; do
        command -v "$command" >/dev/null 2>&1 && return
    done
    missing="$missing $package"
}
need prometheus prometheus
need prometheus-alertmanager prometheus-alertmanager alertmanager
need chromium chromium
need nodejs node
need npm npm
need g++ "${CXX:-g++}"
# Chromium draws nothing without a font.
[ -d /usr/share/fonts/truetype ] || missing="$missing fonts-dejavu-core"

install() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "Not installed (Debian packages):$missing. Tests that need them are skipped by name."
        return
    fi
    echo "Installing$missing ..."
    log=$(mktemp)
    if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 20 "$log"
        echo "Could not install$missing: tests that need them are skipped by name."
    fi
    rm -f "$log"
}
[ -z "$missing" ] || install

# The JavaScript SDK of OpenTelemetry, as its lock file pins it.
cd "$(dirname "$0")/service/conformance/javascript"
installed=node_modules/.installed
if command -v npm >/dev/null 2>&1 && ! cmp -s package-lock.json $installed; then
    echo "Installing OpenTelemetry for JavaScript ..."
    if npm ci --silent --no-audit --no-fund; then
        cp package-lock.json $installed
    else
        echo "Could not install it: tests that need it are skipped by name."
    fi
fi
