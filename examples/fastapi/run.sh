#!/bin/bash
# Runs the service in the foreground on 127.0.0.1:8000, in a virtual environment below .run. Options go to uvicorn.
#
#   DATABASE_URL   SQLAlchemy's URL of the database; what `make run` serves by default
#   PORT           where it listens, 8000
#   VENV           another virtual environment, which has what requirements.txt lists
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
port=${PORT:-8000}
venv=${VENV:-$root/.run/example-venv}

if [ -z "${VENV:-}" ] && ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
  echo "python: installing what requirements.txt lists into $venv"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/requirements.txt"
fi

cat <<END

Try it:

  curl -X POST http://127.0.0.1:$port/authors -H 'content-type: application/json' \\
    -d '{"name": "Ann", "books": [{"title": "One"}]}'
  curl http://127.0.0.1:$port/titles

END
exec "$venv/bin/python" -m uvicorn service:app --app-dir "$here" --port "$port" "$@"
