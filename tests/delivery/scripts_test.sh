#!/usr/bin/env bash
# What a person sees of the scripts on a machine that lacks everything. ROOT is copied in part to WORK, and run with a
# PATH in which there is no compiler, no CMake, and whatever `id`, `sudo` and `apt-get` each case provides.
# shellcheck disable=SC2016 # the fakes expand their own arguments
set -euo pipefail
root=$1
work=$2

rm -rf "$work"
mkdir -p "$work"/{tree,bin}
cp -r "$root/cmake" "$work/tree"
mkdir "$work/tree"/{examples,tests,benchmarks}
for part in examples tests benchmarks; do cp "$root/$part/run.sh" "$work/tree/$part"; done
for tool in bash env dirname basename cat sed grep head tail sort tr mkdir getconf uname; do
  ln -s "$(command -v "$tool")" "$work/bin/$tool"
done

fake() { # NAME SCRIPT
  printf '#!%s\n%s\n' "$(command -v bash)" "$2" >"$work/bin/$1"
  chmod +x "$work/bin/$1"
}

# expect SCRIPT STATUS TEXT...: the script ends with STATUS, and every TEXT is in what it prints
expect() {
  local script=$1 status=$2 text
  shift 2
  set +e
  PATH=$work/bin CXX='' CMAKE_PREFIX_PATH='' "$BASH" "$work/tree/$script" >"$work/output" 2>&1 </dev/null
  local found=$?
  set -e
  if [[ $found -ne $status ]]; then
    echo "$script ended with $found instead of $status:"
    cat "$work/output"
    exit 1
  fi
  for text in "$@"; do
    if ! grep -qF -- "$text" "$work/output"; then
      echo "$script does not say '$text':"
      cat "$work/output"
      exit 1
    fi
  done
}

fake id 'echo 1000'
fake apt-get 'echo "E: Temporary failure resolving deb.example.org" >&2; exit 100'
expect examples/run.sh 2 "not root, and sudo is not there" "g++ 12 or clang++ 14" "CMake 3.21" "make or ninja" \
  "sudo apt-get install g++ cmake make"

fake sudo 'echo "sudo: a password is required" >&2; exit 1'
expect tests/run.sh 2 "sudo is not there or asks for a password" "CMake 3.21"

fake id 'echo 0'
expect examples/run.sh 2 "installing g++ cmake make" "apt-get failed: E: Temporary failure resolving" "  apt-get install g++ cmake make"

rm "$work/bin/apt-get"
fake dnf 'exit 1'
expect examples/run.sh 2 "installs with apt-get alone" "  dnf install gcc-c++ cmake make"

# An old compiler and an old CMake count as missing, and the compiler is asked for by version.
fake apt-get 'exit 100'
fake g++ 'case $* in *dump*) echo 10.2.1 ;; esac'
fake cmake 'echo cmake version 3.18.4'
fake make 'exit 0'
expect examples/run.sh 2 "  apt-get install g++-12 cmake"

# A build that fails shows why.
fake g++ 'case $* in *dump*) echo 12.2.0 ;; esac'
fake cmake 'case $1 in --version) echo cmake version 3.25.1 ;; *) echo "CMake Error: broken on purpose"; exit 1 ;; esac'
for header in eigen3/Eigen/Core CLI/CLI.hpp nlohmann/json.hpp fmt/format.h dnnl.h; do
  mkdir -p "$work/include/$(dirname "$header")"
  touch "$work/include/$header"
done
export CPATH=$work/include
expect examples/run.sh 1 "building build/release" "broken on purpose"

expect benchmarks/run.sh 2 "give one of"
echo "the scripts say what they should"
