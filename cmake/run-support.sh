# Sourced by examples/run.sh, tests/run.sh, benchmarks/run.sh and .ci/run: installs what is missing, builds a preset.
# shellcheck shell=bash

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
log=$root/build/run.log
jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
me=$(basename -- "$(dirname -- "$0")")/$(basename -- "$0")

die() { # STATUS MESSAGE...
  local status=$1
  shift
  printf '%s: %s\n' "$me" "$*" >&2
  exit "$status"
}

mkdir -p "$root/build" 2>/dev/null || die 2 "cannot write in $root"
{ : >"$log"; } 2>/dev/null || die 2 "cannot write in $root/build"

# --- What is there -----------------------------------------------------------------------------------------------

have_header() { # PATH...: any of them below any include directory
  local directories="${CPATH:-}:${CPLUS_INCLUDE_PATH:-}:${CONDA_PREFIX:+$CONDA_PREFIX/include}" prefix path directory
  for prefix in ${CMAKE_PREFIX_PATH:+${CMAKE_PREFIX_PATH//[:;]/ }} /usr/local /opt/homebrew /usr; do
    directories+=:$prefix/include
  done
  for path in "$@"; do
    while IFS= read -r -d : directory; do
      [[ -n $directory && -e $directory/$path ]] && return 0
    done <<<"$directories:"
  done
  return 1
}

compiler_fits() { # COMMAND: g++ 12 or clang++ 14, or newer, and it reads C++20 headers
  local version least=12
  version=$($1 -dumpfullversion -dumpversion 2>/dev/null) || return 1
  [[ $($1 --version 2>/dev/null) == *clang* ]] && least=14
  [[ ${version%%.*} -ge $least ]] && $1 -std=c++20 -fsyntax-only -x c++ - 2>/dev/null <<<'#include <concepts>'
}

have_compiler() { # exports CXX where the system's own c++ is too old
  local name
  if [[ -n ${CXX:-} ]]; then
    compiler_fits "$CXX"
    return
  fi
  compiler_fits c++ && return
  for name in g++ g++-{15,14,13,12} clang++ clang++-{20,19,18,17,16,15,14}; do
    if compiler_fits "$name"; then
      export CXX=$name
      return 0
    fi
  done
  return 1
}

have_cmake() {
  local version
  version=$(cmake --version 2>/dev/null | sed -n 's/^cmake version \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
  read -r major minor <<<"$version" || return 1
  [[ ${major:-0} -gt 3 || (${major:-0} -eq 3 && ${minor:-0} -ge 21) ]]
}

have_make() {
  command -v make >/dev/null && return
  command -v ninja >/dev/null && export CMAKE_GENERATOR=Ninja
}

# NAME: is it there?
have() {
  case $1 in
    compiler) have_compiler ;;
    cmake) have_cmake ;;
    make) have_make ;;
    eigen) have_header eigen3/Eigen/Core Eigen/Core ;;
    cli11) have_header CLI/CLI.hpp ;;
    json) have_header nlohmann/json.hpp ;;
    fmt) have_header fmt/format.h ;;
    onednn) have_header dnnl.h ;;
    catch2) have_header catch2/catch_all.hpp catch2/catch.hpp ;;
    benchmark) have_header benchmark/benchmark.h ;;
    nvcc) nvcc_place >/dev/null ;;
    python-venv) python3 -c 'import venv, ensurepip' 2>/dev/null ;;
    torch) PATH=/usr/bin:$PATH python3 -c 'import torch' 2>/dev/null ;;
    openblas) compgen -G '/usr/lib*/*/openblas-openmp/libblas.so.3' >/dev/null || compgen -G '/usr/lib*/libopenblas*.so*' >/dev/null ;;
    clang) command -v clang++ >/dev/null ;;
    clang-openmp) clang++ -fopenmp -x c++ -o /dev/null - 2>/dev/null <<<'#include <omp.h>
      int main() { return omp_get_max_threads() == 0; }' ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

describe() { # NAME
  case $1 in
    compiler) echo "a C++20 compiler: g++ 12 or clang++ 14, or newer" ;;
    cmake) echo "CMake 3.21 or newer (cmake.org/download where the system's is older)" ;;
    make) echo "make or ninja" ;;
    eigen) echo "Eigen 3.4" ;;
    cli11) echo "CLI11" ;;
    json) echo "nlohmann/json" ;;
    fmt) echo "fmt" ;;
    onednn) echo "oneDNN" ;;
    catch2) echo "Catch2" ;;
    benchmark) echo "Google Benchmark" ;;
    torch) echo "PyTorch for the system's own Python, to compare with" ;;
    openblas) echo "OpenBLAS with OpenMP, for PyTorch to be fast" ;;
    clang-openmp) echo "OpenMP for clang" ;;
    nvcc) echo "nvcc, CUDA 12.8 or newer" ;;
    python-venv) echo "Python 3 with venv" ;;
    *) echo "$1" ;;
  esac
}

# --- How it is installed -----------------------------------------------------------------------------------------

package() { # MANAGER NAME
  case $1:$2 in
    apt:compiler) if command -v g++ >/dev/null; then echo g++-12; else echo g++; fi ;;
    dnf:compiler | zypper:compiler) echo gcc-c++ ;;
    pacman:compiler) echo gcc ;;
    brew:compiler) echo llvm ;;
    apt:eigen) echo libeigen3-dev ;;
    dnf:eigen | zypper:eigen) echo eigen3-devel ;;
    apt:cli11) echo libcli11-dev ;;
    dnf:cli11 | zypper:cli11) echo cli11-devel ;;
    apt:json) echo nlohmann-json3-dev ;;
    dnf:json) echo json-devel ;;
    zypper:json) echo nlohmann_json-devel ;;
    pacman:json | brew:json) echo nlohmann-json ;;
    apt:fmt) echo libfmt-dev ;;
    dnf:fmt | zypper:fmt) echo fmt-devel ;;
    apt:onednn) echo libdnnl-dev ;;
    dnf:onednn | zypper:onednn) echo onednn-devel ;;
    dnf:catch2) echo catch-devel ;;
    zypper:catch2) echo Catch2-devel ;;
    apt:benchmark) echo libbenchmark-dev ;;
    dnf:benchmark) echo google-benchmark-devel ;;
    zypper:benchmark) echo benchmark-devel ;;
    brew:benchmark) echo google-benchmark ;;
    apt:torch) echo python3-torch ;;
    apt:openblas) echo libopenblas0-openmp ;;
    dnf:torch) echo python3-torch ;;
    pacman:torch) echo python-pytorch ;;
    zypper:torch) echo python3-torch ;;
    brew:torch) echo pytorch ;;
    apt:clang-openmp) echo libomp-dev ;;
    apt:python-venv) echo python3-venv ;;
    *:python-venv) echo python3 ;;
    *) echo "$2" ;;
  esac
}

install_command() { # NAME...: prints the command a person would type
  local manager name command packages=()
  for manager in apt-get dnf pacman zypper brew ""; do
    [[ -z $manager ]] || command -v "$manager" >/dev/null || continue
    break
  done
  case $manager in
    "") return 1 ;;
    pacman) command="pacman -S" ;;
    *) command="$manager install" ;;
  esac
  [[ $manager == brew || $(id -u) -eq 0 ]] || command="sudo $command"
  for name in "$@"; do packages+=("$(package "${manager%-get}" "$name")"); done
  echo "$command ${packages[*]}"
}

# Runs apt-get as root; says in `why_not` why it cannot be done.
why_not=
apt_install() { # NAME...
  local as_root=() name packages=() apt
  if ! command -v apt-get >/dev/null; then
    why_not="this script installs with apt-get alone"
    return 1
  fi
  if [[ $(id -u) -ne 0 ]]; then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
      why_not="not root, and sudo is not there or asks for a password"
      return 1
    fi
    as_root=(sudo -n)
  fi
  # shellcheck disable=SC2207 # one name may stand for two packages
  for name in "$@"; do packages+=($(package apt "$name")); done
  printf 'installing %s\n' "${packages[*]}"
  apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=60)
  if ! "${apt[@]}" --no-install-recommends install "${packages[@]}" </dev/null >>"$log" 2>&1 &&
    ! { "${apt[@]}" update && "${apt[@]}" --no-install-recommends install "${packages[@]}"; } </dev/null >>"$log" 2>&1; then
    why_not="apt-get failed: $({ grep -E 'Temporary failure|Could not (resolve|connect)' "$log" || grep -E '^E: ' "$log"; } | tail -n 1)"
    return 1
  fi
}

missing=()
find_missing() { # NAME...
  local name
  missing=()
  for name in "$@"; do have "$name" || missing+=("$name"); done
}

need() { # NAME...: installs what is missing, or says what and how, and exits 2
  local name command
  for _ in 1 2; do # the second time for a compiler that came, but too old
    find_missing "$@"
    [[ ${#missing[@]} -eq 0 ]] && return
    apt_install "${missing[@]}" || break
  done
  find_missing "$@"
  [[ ${#missing[@]} -eq 0 ]] && return
  {
    printf '%s: missing, and not installed (%s):\n' "$me" "${why_not:-apt-get brought an older version}"
    for name in "${missing[@]}"; do printf '  %s\n' "$(describe "$name")"; done
    if command=$(install_command "${missing[@]}"); then
      printf 'To install it:\n  %s\n' "$command"
    fi
    printf 'What is installed in a place of its own is found through CMAKE_PREFIX_PATH.\n'
  } >&2
  exit 2
}

need_to_build() { # [NAME...]: what every program of this project needs, and NAME
  need compiler cmake make eigen cli11 json fmt "$@"
  have onednn || apt_install onednn || true
  have onednn || printf 'oneDNN not found (%s): the trainers multiply with Eigen alone, which is slower\n' \
    "$(install_command onednn || echo "$why_not")"
}

# nvcc is optional: without it the CUDA programs are left out. NVIDIA's wheels hold all that compiling takes, so that no
# toolkit has to be installed; CMake looks in the same places.
nvcc_place() { # prints its path
  local place
  for place in "$(command -v nvcc)" "${CUDA_HOME:+$CUDA_HOME/bin/nvcc}" /usr/local/cuda/bin/nvcc "$root/build/cuda/bin/nvcc"; do
    if [[ -n $place && -x $place ]]; then
      echo "$place"
      return
    fi
  done
  return 1
}

want_nvcc() { # and cuBLAS, from PyPI into build/cuda, if there is none
  have nvcc && return
  have python-venv || apt_install python-venv || true
  printf 'installing nvcc from PyPI into build/cuda\n'
  if python3 -m venv "$root/build/cuda-wheels" >>"$log" 2>&1 &&
    "$root/build/cuda-wheels/bin/pip" install --disable-pip-version-check --no-input nvidia-cuda-nvcc=='13.0.*' \
      nvidia-cuda-crt=='13.0.*' nvidia-nvvm=='13.0.*' nvidia-cuda-runtime=='13.0.*' nvidia-cublas=='13.0.*' >>"$log" 2>&1; then
    local place
    for place in "$root"/build/cuda-wheels/lib/python3*/site-packages/nvidia/cu13; do
      [[ ! -x $place/bin/nvcc ]] || ln -sfn "$place" "$root/build/cuda"
    done
  fi
  have nvcc || printf 'nvcc not found, and not installed: the CUDA programs are left out\n'
}

# --- Building ----------------------------------------------------------------------------------------------------

build() { # PRESET [TARGET...]
  local preset=$1 started=$SECONDS
  shift
  printf 'building build/%s, %s jobs, log in build/run.log ... ' "$preset" "$jobs"
  if (cd "$root" && cmake --preset "$preset" && cmake --build --preset "$preset" --parallel "$jobs" ${1:+--target "$@"}) \
    </dev/null >>"$log" 2>&1; then
    printf 'done in %s s\n' "$((SECONDS - started))"
  else
    printf 'failed. The end of build/run.log:\n'
    tail -n 40 "$log" >&2
    exit 1
  fi
}
