#!/usr/bin/env bash
# Makes sure of what pip cannot bring: Python 3.11 with venv, a C++20 compiler, GoogleTest. google-benchmark and valgrind
# are wanted, but without them only the benches and the instruction counts are left out.
# Installs what is missing with apt where that is possible, and otherwise prints the command that would.
# usage: system_packages.sh [PYTHON]
set -euo pipefail
python=${1:-python3}

compiles() { # PROGRAM: can it be compiled as C++20?
  command -v c++ >/dev/null && printf '%s\n' "$1" | c++ -std=c++20 -x c++ -fsyntax-only - 2>/dev/null
}

missing_packages() {
  "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  compiles 'int main() {}' || echo g++
  compiles '#include <gtest/gtest.h>' || echo libgtest-dev
}

wanted_packages() {
  compiles '#include <benchmark/benchmark.h>' || echo libbenchmark-dev
  { command -v valgrind && compiles '#include <valgrind/callgrind.h>'; } >/dev/null || echo valgrind
}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "error: Python 3.11 or newer is needed; $python is not. Run: make PYTHON=<another python>" >&2
  exit 1
fi

mapfile -t packages < <(missing_packages)
mapfile -t wanted < <(wanted_packages)
((${#packages[@]} + ${#wanted[@]})) || exit 0

as_root=()
((EUID == 0)) || as_root=(sudo -n)
if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
  echo "Installing ${packages[*]} ${wanted[*]} with apt" >&2
  install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends)
  "${as_root[@]}" apt-get update -qq || true
  ((${#packages[@]} == 0)) || "${install[@]}" "${packages[@]}" >&2
  ((${#wanted[@]} == 0)) || "${install[@]}" "${wanted[@]}" >&2 || true
  mapfile -t packages < <(missing_packages)
  mapfile -t wanted < <(wanted_packages)
fi
((${#wanted[@]} == 0)) || echo "note: benches or instruction counts are left out without ${wanted[*]}" >&2
((${#packages[@]})) || exit 0
echo "error: missing on this machine: ${packages[*]}. Run: sudo apt-get install ${packages[*]}" >&2
exit 1
