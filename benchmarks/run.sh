#!/usr/bin/env bash
# Builds and runs one study, prints its table, and writes build/release/results/NAME.csv and for most a figure, NAME.svg.
#
#   benchmarks/run.sh NAME [options of the study]
#
# A study is made of programs, NAME.cpp and NAME_*.cpp (or .cu), or of a script, NAME.sh or NAME.py, that is called with
# the programs' paths, the CSV to write, and the options. A script that starts other programs names them in a line
# '# targets: train_gpt ...' and finds them in $MSG_BUILD. A program on its own is called with --csv FILE, or in Google
# Benchmark's way; of several, each has a CSV of its own.
set -euo pipefail
# shellcheck source=cmake/run-support.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../cmake/run-support.sh"
shopt -s nullglob

here=$root/benchmarks
name=${1:-}
script=
programs=()
if [[ $name =~ ^[a-z0-9_]+$ && $name != run ]]; then
  for script in "$here/$name".{sh,py} ""; do [[ -f $script ]] && break; done
  for source in "$here/$name".{cpp,cu} "$here/$name"_*.{cpp,cu}; do
    [[ -f $source ]] || continue
    source=${source##*/}
    programs+=("${source%.*}")
  done
fi
if [[ -z $script && ${#programs[@]} -eq 0 ]]; then
  studies=("$here"/*.{sh,py,cpp,cu})
  available=$(for study in "${studies[@]##*/}"; do echo "${study%.*}"; done | sed '/^run$/d' | sort -u | tr '\n' ' ')
  die 2 "${name:+no study named $name; }give one of: ${available:-none is there}"
fi
shift

need_to_build benchmark
[[ $name != peers ]] || need torch openblas
export MSG_BUILD=$root/build/release MSG_RESULTS=$root/build/release/results
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE # they make a rival slower than it is
mkdir -p "$MSG_RESULTS"
csv=$MSG_RESULTS/$name.csv

read -r -a targets <<<"${programs[*]} $([[ -z $script ]] || sed -n 's/^# targets: *//p' "$script")"
[[ ${#targets[@]} -eq 0 ]] || build release "${targets[@]}"
if [[ -n $script ]]; then
  [[ $script != *.py ]] || need python3
  interpreter=bash
  [[ $script != *.py ]] || interpreter=$(sed -n '1s/^#!//p' "$script")
  # shellcheck disable=SC2086 # '/usr/bin/env python3' is two words
  $interpreter "$script" "${programs[@]/#/$MSG_BUILD/benchmarks/}" "$csv" "$@"
else
  for program in "${programs[@]}"; do
    [[ ${#programs[@]} -eq 1 ]] || csv=$MSG_RESULTS/$program.csv
    options=(--csv "$csv")
    grep -qs 'benchmark/benchmark\.h' "$here/$program.cpp" && options=("--benchmark_out=$csv" --benchmark_out_format=csv)
    "$MSG_BUILD/benchmarks/$program" "${options[@]}" "$@"
  done
fi
for file in "$MSG_RESULTS/$name"{,_*}.{csv,svg}; do [[ ! -f $file ]] || echo "results: $file"; done
