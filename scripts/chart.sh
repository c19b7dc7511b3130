#!/bin/sh
# Checks the Helm chart: scripts/chart.sh PYTHON [PYTEST ARGUMENT...]. PYTHON has tests/chart/requirements.txt and
# binaries.txt. With SERVER_BINARY, CLIENT_BINARY and MODEL_DIR the flags are held against that server, and calls go
# through the guard; without them this is skipped. UPDATE_SNAPSHOTS=1 writes tests/chart/snapshots anew.
set -eu
cd "$(dirname "$0")/.."
python=$1
shift
if [ ! -x "$python" ]; then
  echo "The chart's tests need Python with tests/chart/requirements.txt; $python is missing." >&2
  echo "Run 'make chart', which makes it, or point YOIO_CHART_PYTHON (CMake) at another." >&2
  exit 1
fi
# One of those packages brings a plug-in for pytest that needs what nobody here does.
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 PYTHONDONTWRITEBYTECODE=1
exec "$python" -m pytest -q -p no:cacheprovider --tb=short --durations=3 tests/chart "$@"
