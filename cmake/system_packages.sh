#!/usr/bin/env bash
# Makes sure of what pip cannot bring: Python 3.11 with venv, a C++20 compiler, GoogleTest.
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

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "error: Python 3.11 or newer is needed; $python is not. Run: make PYTHON=<another python>" >&2
  exit 1
fi

mapfile -t packages < <(missing_packages)
((${#packages[@]})) || exit 0

as_root=()
((EUID == 0)) || as_root=(sudo -n)
if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
  echo "Installing ${packages[*]} with apt" >&2
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${packages[@]}" >&2
  mapfile -t packages < <(missing_packages)
  ((${#packages[@]})) || exit 0
fi
echo "error: missing on this machine: ${packages[*]}. Run: sudo apt-get install ${packages[*]}" >&2
exit 1
