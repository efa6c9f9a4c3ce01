# shellcheck shell=bash
# A throwaway PostgreSQL, for scripts that source this file:
#
#   start_postgres RUN   starts it below RUN/pg and sets postgres_pid and postgres_port; its data stay for the next time
#   stop_postgres PID    stops it and waits
#
# It never runs as root: root runs it as user postgres. Where that user cannot reach RUN (a clone below /root), or where
# RUN is too long for the path of a Unix socket (107 bytes), RUN/pg is a link to a folder below /var/tmp.
#
# The socket is in a folder that only its owner can enter; there everybody is taken at his word. On the loopback address
# only user app gets in, and only to database app: any local user may connect to it.

start_postgres() {
  local run=$1 pg=$1/pg tries
  postgres_bin=$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1)
  postgres_bin=${postgres_bin%/initdb}
  as_postgres=()
  if [ "$(id -u)" = 0 ]; then
    as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups env HOME=/)
  fi

  if [ ! -d "$pg/data" ]; then
    rm -rf "$pg"
    mkdir -m 700 "$pg"
    [ "$(id -u)" != 0 ] || chown postgres: "$pg"
    if [ ${#pg} -gt 80 ] || ! "${as_postgres[@]}" test -w "$pg"; then
      rmdir "$pg"
      ln -s "$(mktemp -d /var/tmp/lifeguard-pg.XXXXXX)" "$pg"
      [ "$(id -u)" != 0 ] || chown postgres: "$pg/"
    fi
  fi
  pg=$(cd "$pg" && pwd -P)
  if [ ! -e "$pg/data/PG_VERSION" ]; then
    echo "PostgreSQL: making a throwaway cluster in .run/pg"
    rm -rf "$pg/data"
    in_folder "$pg" "$postgres_bin/initdb" -D "$pg/data" -A trust -U postgres -E UTF8 --locale=C.UTF-8 >"$run/initdb.log"
    printf '%s\n' 'local all all trust' 'host app app 127.0.0.1/32 trust' | in_folder "$pg" tee data/pg_hba.conf \
      >/dev/null
  fi

  for ((tries = 0; tries < 20; tries++)); do
    postgres_port=$(free_port)
    # A session of its own, so that Ctrl-C does not reach it before its clients are gone; it ends with this shell.
    (
      cd "$pg"
      exec setsid "${as_postgres[@]}" setpriv --pdeathsig INT -- "$postgres_bin/postgres" -D "$pg/data" -k "$pg" \
        -p "$postgres_port" -c listen_addresses=127.0.0.1 -c max_connections=100
    ) >>"$run/postgres.log" 2>&1 9>&- &
    postgres_pid=$!
    if wait_for_postgres "$pg"; then
      make_app "$pg"
      return
    fi
    wait "$postgres_pid" || true
    postgres_pid=
    # Somebody was faster at the port; anything else does not get better by trying again.
    tail -n 5 "$run/postgres.log" | grep -q 'could not bind' || break
  done
  tail -n 5 "$run/postgres.log" >&2
  echo "The throwaway PostgreSQL does not start; its log is .run/postgres.log" >&2
  return 1
}

stop_postgres() {
  kill -INT "$1" 2>/dev/null || true
  while kill -0 "$1" 2>/dev/null; do wait "$1" || true; done
}

# From a folder that the user may enter.
in_folder() (
  cd "$1"
  shift
  exec "${as_postgres[@]}" "$@"
)

free_port() {
  local port
  for ((port = 5433; port < 5600; port++)); do
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
}

wait_for_postgres() {
  local tries
  for ((tries = 0; tries < 600; tries++)); do
    kill -0 "$postgres_pid" 2>/dev/null || return 1
    "$postgres_bin/pg_isready" -q -h "$1" -p "$postgres_port" && return
    sleep 0.1
  done
  return 1
}

make_app() {
  local psql=("$postgres_bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$1" -p "$postgres_port" -U postgres)
  [ -z "$("${psql[@]}" -c "select 1 from pg_roles where rolname = 'app'")" ] || return 0
  "${psql[@]}" -c "create role app login" -c "create database app owner app"
}
