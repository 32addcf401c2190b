#!/usr/bin/env bash
# Checks the format of every source with clang-format 14; with --fix, applies it.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

for tool in clang-format-14 clang-format ""; do
  [[ -n $tool ]] && "$tool" --version 2>/dev/null | grep -q 'version 14\.' && break
done
if [[ -z $tool ]]; then
  echo "cmake/format.sh: clang-format 14 not found (apt install clang-format-14; elsewhere: pip install clang-format==14.0.6)" >&2
  exit 2
fi
options=(--dry-run -Werror)
[[ ${1:-} != --fix ]] || options=(-i)
find include examples benchmarks tests -type f \( -name '*.hpp' -o -name '*.cpp' -o -name '*.cuh' -o -name '*.cu' \) -print0 |
  xargs -0 "$tool" --style=file "${options[@]}"
