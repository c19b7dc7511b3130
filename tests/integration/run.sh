#!/bin/sh
# Runs one file of integration tests: run.sh PYTHON FILE.
if [ ! -x "$1" ]; then
  echo "The integration tests need Python with tests/requirements.txt; $1 is missing." >&2
  echo "Run 'make test', which makes it, or point YOIO_TEST_PYTHON (CMake) at another." >&2
  exit 1
fi
exec "$1" -m pytest -q -p no:cacheprovider --tb=short --durations=3 "$2"
