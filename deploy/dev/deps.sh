#!/bin/bash
# Installs what is missing from Debian's packages, and says what and why. Says nothing when all is there.
#
#   deploy/dev/deps.sh [build] [run] [test] [go] [bench]
#
# build, run, test: by apt-get, as root or through sudo. No service is started by that: a PostgreSQL that comes new onto
#   the machine gets no default cluster (postgresql-common reads createcluster.d; the file is there only meanwhile).
# test: of what is tested with, pgjdbc, promtool and the drivers of Perl, Node and ODBC are only unpacked, below .run/deps.
# go: so are Go, lib/pq and pgx, 86 MB of packages, which `make test` does without.
# bench: so is PgBouncer, with the libraries that the machine does not have.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
missing=()

installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Package, and what it is for.
need() {
  installed "$1" && return
  missing+=("$1")
  printf 'missing: %-22s %s\n' "$1" "$2"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

install_missing() {
  [ ${#missing[@]} -gt 0 ] || return 0
  local line="apt-get install --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    printf 'Installing them needs root, and there is no sudo. As root, please run:\n\n  %s\n\n' "$line" >&2
    exit 1
  fi
  echo "installing: $line"
  compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || apt_get update
  apt_get install "${missing[@]}" || { apt_get update && apt_get install "${missing[@]}"; }
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends "$@"
}

# A server package makes and starts a cluster when it is installed, unless this says otherwise.
without_default_cluster() {
  local dir=/etc/postgresql-common/createcluster.d
  local file=$dir/lifeguard-deps.conf had_dir=yes
  [ -d "$dir" ] || had_dir=no
  # shellcheck disable=SC2064
  trap "as_root rm -f '$file'; [ $had_dir = yes ] || as_root rmdir -p --ignore-fail-on-non-empty '$dir'" EXIT
  as_root mkdir -p "$dir"
  echo 'create_main_cluster = false' | as_root tee "$file" >/dev/null
  "$@"
}

# Into this folder; as whoever runs this, since apt's own user may not be able to write here.
download() {
  apt-get -q -o APT::Sandbox::User="$(id -un)" download "$1" >/dev/null
}

# Downloads a package and unpacks it below .run/deps.
unpack() {
  local into=$root/.run/deps package=$1
  [ -e "$into/.$package" ] && return
  echo "unpacking: $package below .run/deps ($2)"
  mkdir -p "$into"
  (
    cd "$into"
    download "$package" || { apt_get update && download "$package"; }
    dpkg -x "$package"_*.deb .
    rm "$package"_*.deb
  )
  touch "$into/.$package"
}

if ! command -v swift >/dev/null; then
  echo 'No Swift toolchain in PATH. Lifeguard needs Swift 6.2 or newer.' >&2
  exit 1
fi
if ! command -v dpkg-query >/dev/null; then
  echo 'This is no Debian: please install by hand what deploy/dev/deps.sh lists.' >&2
  exit 0
fi

for what; do
  case $what in
    build)
      need pkg-config "finds the C libraries"
      need g++ "compiles the TOML parser's C interface"
      need libpq-dev "opens the connections to PostgreSQL"
      need libssl-dev "TLS"
      need libidn-dev "prepares passwords for SCRAM"
      need libsystemd-dev "tells systemd that the daemon is ready"
      need libtomlplusplus-dev "reads the settings file"
      need liburing-dev "the io_uring event loop"
      ;;
    run)
      compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null && compgen -G '/usr/lib/postgresql/*/bin/pgbench' \
        >/dev/null || need postgresql "the throwaway server; no service is started"
      command -v psql >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/psql' >/dev/null || need postgresql-client "psql"
      ;;
    test)
      need python3-venv "runs the tests with real clients"
      command -v java >/dev/null || need default-jre-headless "runs pgjdbc, one of the clients"
      command -v systemd-analyze >/dev/null || need systemd "checks the units; it does not run here"
      command -v openssl >/dev/null || need openssl "makes the tests' certificates"
      command -v ss >/dev/null || need iproute2 "shows the timers of sockets"
      need strace "counts system calls"
      need valgrind "counts instructions"
      need php-cli "runs PHP's clients"
      need php-pgsql "PHP's pgsql and PDO, clients to test with"
      need ruby-pg "Ruby's pg, a client to test with"
      ;;
    go) ;;
    bench)
      need python3 "runs the benchmark"
      need strace "counts system calls"
      need valgrind "counts instructions"
      command -v perf >/dev/null || need linux-perf "sees what workers share"
      ;;
    *)
      echo "deps.sh: what is \"$what\"?" >&2
      exit 1
      ;;
  esac
done
without_cluster=
case " ${missing[*]-} " in *' postgresql '*) without_cluster=without_default_cluster ;; esac
$without_cluster install_missing

case " $* " in
  *' test '*)
    unpack libpostgresql-jdbc-java "pgjdbc, a client to test with"
    unpack prometheus "promtool, which checks metrics and alert rules"
    unpack libdbi-perl "Perl's DBI, a client to test with"
    unpack libdbd-pg-perl "Perl's DBD::Pg, a client to test with"
    unpack odbc-postgresql "psqlODBC, a client to test with"
    for package in libodbc2 libodbcinst2 libltdl7; do unpack "$package" "psqlODBC needs it"; done
    if command -v node >/dev/null; then
      for package in node-pg node-split2 node-readable-stream; do unpack "$package" "Node's pg, a client to test with"; done
    fi
    ;;
esac
case " $* " in
  *' go '*)
    compiler=$(apt-cache depends golang-go | sed -n 's/.*Depends: \(golang-[0-9.]*\)-go$/\1/p' | head -1)
    for package in "$compiler-go" "$compiler-src"; do unpack "$package" "compiles Go"; done
    unpack golang-github-lib-pq-dev "Go's lib/pq, a client to test with"
    for package in pgx-v4 pgconn pgtype pgio pgpassfile pgservicefile pgproto3-v2 chunkreader-v2 puddle; do
      unpack "golang-github-jackc-$package-dev" "Go's pgx, a client to test with"
    done
    for package in crypto text; do unpack "golang-golang-x-$package-dev" "pgx needs it"; done
    ;;
esac
case " $* " in
  *' bench '*)
    unpack pgbouncer "what Lifeguard is compared with"
    ldconfig -p | grep -q 'libevent-2\.1\.so\.7' || unpack libevent-2.1-7 "PgBouncer needs it"
    ldconfig -p | grep -q 'libcares\.so\.2' || unpack libc-ares2 "PgBouncer needs it"
    ;;
esac
