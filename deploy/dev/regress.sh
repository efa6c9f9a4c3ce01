#!/bin/bash
# PostgreSQL's own regression tests through the daemon. Options go to Tests/Integration/regress/regress.py.
#
# Their SQL, their expected files and the C library that they load are taken from Debian's source package of the very
# PostgreSQL that is installed, below .run/regress. Where that cannot be had, this says what is missing and skips.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
  echo "regress: skipped, $1"
  exit 0
}

server=$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -1)
[ -n "$server" ] || skip "no PostgreSQL server is installed"
major=$(basename "$(dirname "$(dirname "$server")")")
version=$(dpkg-query -W -f '${Version}' "postgresql-$major" 2>/dev/null) ||
  skip "PostgreSQL $major is not from the package postgresql-$major"
pg_regress=/usr/lib/postgresql/$major/lib/pgxs/src/test/regress/pg_regress
[ -x "$pg_regress" ] || skip "$pg_regress is missing (package postgresql-client-$major)"
command -v apt-get >/dev/null || skip "there is no apt-get to take the source package with"
command -v cc >/dev/null || skip "there is no C compiler for the tests' library (package gcc)"

folder=$PWD/.run/regress/$version
apt() {
  apt-get -q -y -o APT::Sandbox::User="$(id -un)" "$@" >>"$folder/apt.log" 2>&1
}

# The same archives as the machine's own, for sources, with lists of their own: nothing of the machine changes.
source_apt() {
  apt -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$folder/lists" "$@"
}

fetch() {
  rm -rf "$folder"
  mkdir -p "$folder/lists/partial" "$folder/tests" "$folder/headers"
  # shellcheck disable=SC2016 # the words with a dollar are apt-get's
  apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u \
    >"$folder/sources.list"
  echo "regress: fetching the source package of PostgreSQL $version below .run/regress"
  (
    cd "$folder"
    source_apt update || exit
    source_apt source --download-only "postgresql-$major=$version" || exit
    apt download "postgresql-server-dev-$major=$version"
  ) || skip "the source package postgresql-$major and postgresql-server-dev-$major $version cannot be had: $(
    grep '^E:' "$folder/apt.log" | head -1)"
  tar -xf "$folder"/postgresql-*.orig.tar.* -C "$folder/tests" --strip-components=4 --wildcards '*/src/test/regress'
  dpkg -x "$folder"/postgresql-server-dev-*.deb "$folder/headers"
}

# regress.so as the tests load it, beside those modules of PostgreSQL's own that they expect in the same folder.
build_library() {
  local headers=$folder/headers/usr/include/postgresql
  mkdir -p "$folder/lib"
  cp "/usr/lib/postgresql/$major/lib/"{autoinc,refint}.so "$folder/lib"
  cc -O2 -fPIC -shared -w -I "$headers/$major/server" -I "$headers/internal" -I /usr/include/postgresql \
    "$folder/tests/regress.c" -o "$folder/lib/regress.so"
}

if [ ! -e "$folder/complete" ]; then
  fetch
  build_library
  touch "$folder/complete"
fi
exec python3 Tests/Integration/regress/regress.py --tests "$folder/tests" --library "$folder/lib" \
  --pg-regress "$pg_regress" --results "$PWD/.run/regress/results" "$@"
