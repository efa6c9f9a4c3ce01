#!/bin/bash
# swift-format over every Swift file. A machine without swift-format skips it; CI does not.
set -euo pipefail
cd "$(dirname "$0")/../.."

if command -v swift-format >/dev/null; then
  format=(swift-format)
elif swift format --version >/dev/null 2>&1; then
  format=(swift format)
elif [ -n "${CI:-}" ]; then
  echo "lint: this Swift toolchain has no swift-format" >&2
  exit 1
else
  echo "lint: skipped, this Swift toolchain has no swift-format"
  exit 0
fi
"${format[@]}" lint --strict --parallel --recursive --configuration .swift-format Sources Tests Package.swift
echo "lint: ok"
