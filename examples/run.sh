#!/usr/bin/env bash
# Pre-trains a GPT that grows, in one command: installs what is missing, builds build/release, runs train_gpt.
#
#   examples/run.sh [options of train_gpt]        for instance --help, --compare, --data PATH
set -euo pipefail
# shellcheck source=cmake/run-support.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../cmake/run-support.sh"

# shellcheck disable=SC2119
need_to_build
build release train_gpt
exec "$root/build/release/examples/train_gpt" "$@"
