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
need g++ "${CXX:-g++}"
# Chromium draws nothing without a font.
[ -d /usr/share/fonts/truetype ] || missing="$missing fonts-dejavu-core"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing$missing ..."
    log=$(mktemp)
    if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 20 "$log"
        echo "Could not install$missing: tests that need them are skipped by name."
    fi
    rm -f "$log"
else
    echo "Not installed (Debian packages):$missing. Tests that need them are skipped by name."
fi
