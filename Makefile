# Short names for the scripts; the scripts are what is documented.
.PHONY: build dind-up dind-down test lab bench

build:
	scripts/build
dind-up:
	scripts/up
dind-down:
	scripts/down
test:
	scripts/test
lab:
	scripts/lab up
bench:
	scripts/bench
