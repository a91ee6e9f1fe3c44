# What people do here. Each target says in its comment what it is for; the work stands in scripts/.
# Everything builds in the release profile: clippy, tests, demo and benchmarks share one build.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help demo test test-newest chaos check check-docs lint test-tools bench bench-log-shipper bench-peers static audit infra cost host-test workflows ci-scripts-test

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## load the files of seed-data/ into SQLite on this machine; no account, no network service
	@scripts/demo.sh

test: test-tools lint ## install what tests need, then lint and run every test
	$(CARGO) test --release --workspace --locked
	@$(MAKE) --no-print-directory check-docs

test-newest: ## the tests of etl-runner on the newest PostgreSQL instead of the distribution's; needs npm
	@scripts/test-newest.sh

chaos: test-tools ## the long version of the chaos tests, an hour: 400 random faults, one at each fourth message, 200 kills of log-shipper; prints counts
	CHAOS_ROUNDS=$${CHAOS_ROUNDS:-400} CHAOS_STEP=$${CHAOS_STEP:-4} \
	  $(CARGO) test --release --locked -p etl-runner --test it -- chaos --nocapture --test-threads 1
	SHIPPER_ROUNDS=$${SHIPPER_ROUNDS:-200} MODEL_CASES=$${MODEL_CASES:-20000} \
	  OUTAGE_SECONDS=$${OUTAGE_SECONDS:-300} SOAK_SECONDS=$${SOAK_SECONDS:-1800} \
	  $(CARGO) test --release --locked -p log-shipper --test it -- kill doubles model rotated memory --nocapture --test-threads 1

check: test-tools lint workflows ## the quick part of `make test`: format, clippy, workflows, unit tests
	$(CARGO) test --release --workspace --locked --lib --bins

# The programs as `make test` builds them: nothing is built again.
check-docs: ## run the commands of README and guide, follow the links of all documents
	$(CARGO) test --release --workspace --locked --no-run
	@scripts/check-docs.py

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings

test-tools: ## install PostgreSQL and the AWS emulator for the tests, unless they are here
	@scripts/install-test-tools.sh

bench: ## measure beside psql \copy and the peers that are installed, then each stage on one core
	$(CARGO) build --release --locked -p ingest -p etl-runner
	python3 benches/run.py
	@target/release/ingest generate customers --rows 1000000 --seed 1 --out target/bench-customers.csv
	$(CARGO) bench --locked -p etl-runner --bench stages -- $(CURDIR)/target/bench-customers.csv $(CURDIR)/benches/customers.toml

bench-log-shipper: ## measure log-shipper: a backlog of 5,000,000 lines, rest, 10,000 files; six minutes (CASES=backlog: one)
	$(CARGO) bench --locked -p log-shipper --bench shipping -- $(CASES)

bench-peers: ## install the programs `make bench` compares with, below .cache/bench; none of them is needed
	@benches/install-peers.sh

static: ## build the binaries that are shipped: small, static, for this machine's processor; TARGET=aarch64-unknown-linux-musl for the other
	@scripts/static.sh $(TARGET)

audit: ## check licences, sources and known vulnerabilities of all dependencies
	@scripts/audit.sh

host-test: ## test infra/host and infra/bootstrap in a root of their own; needs root or sudo, takes two minutes
	@infra/host/tests/run.sh

infra: ## check Terraform, host scripts and policies, without an account; installs its linters below .cache
	@infra/check.sh

cost: ## estimate what each AWS environment costs a month, with the date and the source of each price
	@infra/cost.py

workflows: ## check the GitHub workflows and every script in them; installs its linters below .cache
	@scripts/ci/check-workflows.sh

ci-scripts-test: workflows ## run the scripts behind the workflows against an AWS emulator and stand-ins for GitHub
	@scripts/ci/test.sh
