# Short names for the scripts; the scripts are what is documented.
.PHONY: build images dind-up dind-down test lab bench

build:
	scripts/build
images:
	scripts/build --image all
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
