#!/usr/bin/env bash
# Installs what is missing, builds a preset (MSG_PRESET, release if not set), passes its tests.
#
#   tests/run.sh [options of ctest]        for instance -R plan, -L kernels, -j 1
set -euo pipefail
# shellcheck source=cmake/run-support.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../cmake/run-support.sh"

preset=${MSG_PRESET:-release}
need_to_build catch2
build "$preset"
cd -- "$root"
exec ctest --preset "$preset" --parallel "$jobs" "$@"
