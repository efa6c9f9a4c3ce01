#!/bin/sh
# Builds the fuzz targets below `targets` and runs each on its corpus.
#
#   Tests/Fuzz/run.sh [seconds for each target, default 20] [target ...]
#
# A target is one file `targets/NAME.swift` with `func fuzz(_ input: [UInt8])`; its seeds are in `corpus/NAME`. What the
# fuzzer finds on the way stays below .build-fuzz; an input that crashed is named at the end and belongs into the corpus
# once the bug is fixed. FUZZ_JOBS targets run at a time (default: one for each core).
set -eu

fuzz=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$fuzz/../.." && pwd)
out=$root/.build-fuzz
seconds=${1:-20}
[ $# -eq 0 ] || shift
if [ $# -eq 0 ]; then
  for file in "$fuzz"/targets/*.swift; do set -- "$@" "$(basename "$file" .swift)"; done
fi
jobs=${FUZZ_JOBS:-$(nproc)}
export SWIFT_BACKTRACE=enable=no
export fuzz root out seconds

flags="-O -g -sanitize=fuzzer,address -parse-as-library -swift-version 6 -strict-memory-safety"
export flags

mkdir -p "$out"
imports="-I $out -I $root/Sources/COpenSSL -I $root/Sources/CStringPrep"
shim() {
  printf 'module %s {\n  header "%s"\n  export *\n}\n' "$1" "$root/Sources/$1/include/$1.h" >"$out/$1.modulemap"
  clang -O -g -fsanitize=address -c -I "$root/Sources/$1/include" -o "$out/$2.o" "$root/Sources/$1/$2.c"
  imports="$imports -Xcc -fmodule-map-file=$out/$1.modulemap"
}
shim CLinux clinux
shim CUring curing
export imports

# Builds the module of that name, of all its files or of those that are named.
module() {
  name=$1
  shift
  [ $# -gt 0 ] || set -- "$root/Sources/$name"/*.swift
  # shellcheck disable=SC2086
  swiftc $flags $imports -enable-testing -enable-experimental-feature Lifetimes -wmo -static -emit-library -emit-module \
    -module-name "$name" -emit-module-path "$out/$name.swiftmodule" -o "$out/lib$name.a" "$@"
}
module Locking
module PostgresWire
module Authentication
module Reactor
# What reads SQL; the rest of Pooling needs packages.
pooling=$root/Sources/Pooling
module Pooling "$pooling/SQLReading.swift" "$pooling/SQLLexer.swift" "$pooling/FunctionNames.swift" \
  "$pooling/StatementEffects.swift" "$pooling/SettingCommands.swift" "$pooling/TouchedSettings.swift"

# The name of the target is the argument.
build='case $1 in TLS*) more="$root/Tests/ReactorTests/TLSFixtures.swift" ;; *) more= ;; esac
swiftc $flags $imports -enable-experimental-feature Lifetimes -use-ld=lld -module-name "Fuzz$1" -L "$out" -lAuthentication -lPooling -lPostgresWire -lReactor -lLocking -lssl -lcrypto -lidn -lswiftSynchronization -lswiftGlibc -lswiftDispatch -ldispatch \
  -o "$out/$1" "$fuzz/FuzzEntry.swift" "$fuzz/targets/$1.swift" $more "$out/clinux.o" "$out/curing.o"'
run='mkdir -p "$out/corpus/$1" "$out/crashes"
if "$out/$1" -max_total_time="$seconds" -max_len=4096 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
  -artifact_prefix="$out/crashes/$1-" "$out/corpus/$1" "$fuzz/corpus/$1" >"$out/$1.log" 2>&1; then
  printf "%-26s ok, %d inputs\n" "$1" "$(sed -n "s/^stat::number_of_executed_units: *//p" "$out/$1.log")"
else
  tail -n 40 "$out/$1.log"
  echo "$1: FAILED, see $out/$1.log"
  exit 1
fi'
printf '%s\n' "$@" | xargs -P "$jobs" -I{} sh -c "$build" build {}
printf '%s\n' "$@" | xargs -P "$jobs" -I{} sh -c "$run" run {}
