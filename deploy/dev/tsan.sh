#!/bin/bash
# The tests with real clients on a daemon built for ThreadSanitizer, with two workers. A race fails the test it shows in.
# Options go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."

swift build -c release --sanitize=thread -Xswiftc -DTHREAD_SANITIZER --scratch-path .build-tsan --product lifeguard
export LIFEGUARD=$PWD/.build-tsan/release/lifeguard WORKERS=2
export TSAN_OPTIONS="suppressions=$PWD/Tests/Integration/tsan.supp"
exec deploy/dev/integration.sh "$@"
