#!/bin/bash
# The tests with real clients against a real PostgreSQL, in a virtual environment below .run. Options go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."

venv=.run/venv
wanted=Tests/Integration/requirements.txt
if ! cmp -s "$wanted" "$venv/requirements.txt"; then
  echo "python: installing $(grep -c '^[a-z]' "$wanted") packages into $venv"
  python=/usr/bin/python3
  [ -x "$python" ] || python=python3
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
  cp "$wanted" "$venv/requirements.txt"
fi
# WORKERS: how many workers the daemons have, run by run. One has epoll, several what the kernel allows.
for workers in ${WORKERS:-1 2}; do
  loop=${LIFEGUARD_EVENT_LOOP:-$([ "$workers" = 1 ] && echo epoll || echo auto)}
  echo "with $workers worker(s), event_loop $loop:"
  # What takes long and tells nothing new the second time runs once, with what users have: whole applications, other
  # languages' drivers, what needs no daemon, and a wait of a minute.
  once=()
  if [ -z "${WORKERS:-}" ] && [ "$workers" = 1 ]; then
    once=(--ignore=Tests/Integration/applications --ignore=Tests/Integration/test_survival_drivers.py
      --ignore=Tests/Integration/test_jdbc.py --ignore=Tests/Integration/test_check.py
      --deselect=test_auth_upstream.py::test_an_old_password_is_taken_for_a_minute_at_most)
  fi
  # shellcheck disable=SC2086
  LIFEGUARD_WORKERS=$workers LIFEGUARD_EVENT_LOOP=$loop "$venv/bin/python" -m pytest -c Tests/Integration/pytest.ini \
    --rootdir Tests/Integration ${PYTEST:-} "${once[@]}" "$@" Tests/Integration
done
