# The table of commands. `make` alone prints it.
#
# The scripts behind it are in deploy/dev. What they make lies below .build*, .run and nowhere else.

.DEFAULT_GOAL := help
.PHONY: help deps build run test unit integration lint fuzz tsan regress bench order clean

# Swift's run time goes into the daemon (docs/decisions/0009-static-run-time.md).
BUILD := swift build -c release --static-swift-stdlib
# What it runs while it serves lies side by side in memory (docs/decisions/0010-hot-functions-side-by-side.md).
BUILD += -Xswiftc -Xfrontend -Xswiftc -function-sections -Xswiftc -use-ld=lld -Xlinker --no-warn-symbol-ordering \
  -Xlinker --symbol-ordering-file -Xlinker $(CURDIR)/deploy/dev/hot-functions.txt

help: ## this table
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-13s%s\n", $$1, $$2 }'

deps: ## install what is missing from Debian's packages, and say so
	@deploy/dev/deps.sh build run test

build: ## build .build/release/lifeguard
	@deploy/dev/deps.sh build
	$(BUILD)

run: ## build, then run: throwaway PostgreSQL (or UPSTREAM='host=...'), daemon in the foreground; PORT=, HTTP_PORT=
	@deploy/dev/deps.sh build run
	$(BUILD)
	@exec deploy/dev/run.sh

test: ## all tests: lint, Swift tests, then real clients against a real PostgreSQL
	@deploy/dev/deps.sh build run test
	@deploy/dev/lint.sh
	$(BUILD)
	@deploy/dev/unit.sh
	@deploy/dev/integration.sh

unit: ## the Swift tests alone; FILTER=name runs some of them
	@deploy/dev/deps.sh build run
	@deploy/dev/unit.sh

integration: ## the tests with real clients alone; PYTEST='-k cancel' passes options on
	@deploy/dev/deps.sh build run test
	$(BUILD)
	@deploy/dev/integration.sh

lint: ## swift-format on every Swift file
	@deploy/dev/lint.sh

fuzz: ## each decoder for SECONDS_EACH (20) seconds, then ROUNDS (500) of random conversations, direct and through the daemon
	@deploy/dev/deps.sh build run test
	Tests/Fuzz/run.sh $(or $(SECONDS_EACH),20)
	$(BUILD)
	DIFFERENTIAL_SEED=random DIFFERENTIAL_ROUNDS=$(or $(ROUNDS),500) WORKERS=1 \
	  PYTEST='--timeout 0 -s -k look_the_same' deploy/dev/integration.sh

tsan: ## the tests with real clients, with ThreadSanitizer; PYTEST='-k workers' passes options on
	@deploy/dev/deps.sh build run test
	@deploy/dev/tsan.sh

regress: ## PostgreSQL's own regression tests through the daemon; REGRESS=transaction runs only that mode anew
	@deploy/dev/deps.sh build run
	$(BUILD)
	@deploy/dev/regress.sh $(REGRESS)

bench: ## all of docs/benchmarks.md anew; BENCH='--only 16,200 --rounds 5' or BENCH='memory --clients 15000' a part of it
	@deploy/dev/deps.sh build run bench
	$(BUILD)
	python3 Tests/Benchmarks/bench.py $(BENCH)

order: ## deploy/dev/hot-functions.txt anew, when test_budget.py says that it is out of date
	@deploy/dev/deps.sh build run test
	$(BUILD)
	python3 Tests/Benchmarks/order.py

clean: ## remove what was built; the throwaway server's data and what was downloaded stay below .run
	rm -rf .build .build-tests .build-fuzz .build-tsan

# What may be set on the command line, as in `make run PORT=7432`.
export UPSTREAM AUTH USERLIST PORT HTTP_PORT FILTER PYTEST
