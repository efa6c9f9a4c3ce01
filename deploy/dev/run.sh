#!/bin/bash
# Runs the built daemon in the foreground, all of its files below .run. Ctrl-C stops it.
#
# Without UPSTREAM it starts a throwaway PostgreSQL first (user app, database app), whose data stay in .run/pg for the
# next time, and stops it at the end. Variables:
#
#   UPSTREAM   libpq connection string of a PostgreSQL of your own
#   AUTH       how clients prove who they are: trust (default), upstream; password, md5, scram-sha-256 with USERLIST
#   USERLIST   users and secrets in PgBouncer's format
#   PORT       where clients connect, 6432
#   HTTP_PORT  where metrics and health are served, 9127
#   LIFEGUARD  another binary than .build/release/lifeguard
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
run=$root/.run
port=${PORT:-6432}
http_port=${HTTP_PORT:-9127}
mkdir -p "$run"
# shellcheck source=deploy/dev/postgres.sh
. "$root/deploy/dev/postgres.sh"

postgres_pid=
daemon_pid=
stopping=

# One at a time: two would share settings and data.
exec 9>"$run/lock"
flock -n 9 || { echo "Another \"make run\" of this folder is running." >&2; exit 1; }

toml_string() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# Ctrl-C reaches this shell; the daemon gets SIGTERM from here, and the second Ctrl-C makes it stop at once.
stop() {
  stopping=yes
  [ -z "$daemon_pid" ] || kill -TERM "$daemon_pid" 2>/dev/null || true
}

clean_up() {
  trap '' INT TERM HUP
  if [ -n "$daemon_pid" ]; then
    kill -TERM "$daemon_pid" 2>/dev/null || true
    while kill -0 "$daemon_pid" 2>/dev/null; do wait "$daemon_pid" || true; done
  fi
  if [ -n "$postgres_pid" ]; then stop_postgres "$postgres_pid"; fi
}
trap clean_up EXIT
trap stop INT TERM HUP

if [ -z "${UPSTREAM:-}" ]; then
  start_postgres "$run"
  upstream="host=127.0.0.1 port=$postgres_port dbname=app"
  user=app
  database=app
  echo "PostgreSQL: 127.0.0.1:$postgres_port, data and log in .run/pg"
else
  upstream=$UPSTREAM
  if [ -z "${AUTH:-}" ] && [[ $upstream =~ password[[:space:]]*= || $upstream =~ ://[^/@]*:[^/@]*@ ]]; then
    echo 'UPSTREAM holds a password: say by AUTH=trust that everybody on this machine may use it through Lifeguard,' >&2
    echo 'or have clients prove who they are (AUTH=upstream, or AUTH=scram-sha-256 USERLIST=file).' >&2
    exit 1
  fi
  user=$(sed -n "s/.*\buser *= *'\?\([^' &]*\).*/\1/p; s|.*://\([^:/@]*\)[^/]*@.*|\1|p" <<<"$upstream" | head -n 1)
  database=$(sed -n "s/.*\bdbname *= *'\?\([^' &]*\).*/\1/p; s|.*://[^/]*/\([^?]\+\).*|\1|p" <<<"$upstream" | head -n 1)
  user=${user:-$(id -un)}
  database=${database:-$user}
fi

cat >"$run/lifeguard.toml" <<TOML
# Written anew by each "make run".
[server]
listen = ["127.0.0.1:$port"]
shutdown_timeout = "5s"

[databases."*"]
upstream = $(toml_string "$upstream")

[auth]
method = $(toml_string "${AUTH:-trust}")
${USERLIST:+file = $(toml_string "$(realpath "$USERLIST")")}

[admin]
socket = $(toml_string "$run/admin.sock")

[http]
listen = "127.0.0.1:$http_port"
TOML
chmod 600 "$run/lifeguard.toml"

[ -z "$stopping" ] || exit 130
# A group of its own, so that Ctrl-C reaches it only through `stop`; and it ends with this shell, however that ends.
setsid setpriv --pdeathsig TERM -- "${LIFEGUARD:-$root/.build/release/lifeguard}" serve --config "$run/lifeguard.toml" 9>&- &
daemon_pid=$!
[ -z "$stopping" ] || stop

ready() { (exec 3<>"/dev/tcp/127.0.0.1/$http_port" 4<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
for ((tries = 0; tries < 200; tries++)); do
  kill -0 "$daemon_pid" 2>/dev/null || break
  if ready && kill -0 "$daemon_pid" 2>/dev/null; then
    printf '\nTry it:\n\n  psql -h 127.0.0.1 -p %s -U %s %s\n\nCtrl-C stops.\n\n' "$port" "$user" "$database"
    break
  fi
  sleep 0.05
done

# A signal ends `wait` early; the shell keeps the exit code for the last one.
wait "$daemon_pid" || true
while kill -0 "$daemon_pid" 2>/dev/null; do wait "$daemon_pid" || true; done
status=0
wait "$daemon_pid" || status=$?
daemon_pid=
exit "$status"
