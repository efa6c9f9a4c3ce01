#!/bin/bash
# The Swift tests, optimized: the simulations run about thirty times faster so. They have a build folder of their own,
# because tests are built with other flags than the daemon that is shipped.
set -euo pipefail
cd "$(dirname "$0")/../.."

exec swift test -c release --scratch-path .build-tests ${FILTER:+--filter "$FILTER"}
