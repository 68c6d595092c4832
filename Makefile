# Short names for the scripts; the scripts are what is documented (`scripts/NAME --help`), and what takes arguments is called itself.
.DEFAULT_GOAL := help
.PHONY: help build images test lab bench dind-up dind-down dind-test dind-stats dind-clean restart rebuild stats clean backup restore \
	logs scan diagnostics

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do printf '%-13s %s\n' "$$name" "$$what"; done
build: ## the static binary target/dist/dindctl
	scripts/build
images: ## every image, where something has changed
	scripts/build --image all
test: ## every ring of tests that this machine can run
	scripts/test
lab: ## a private Docker engine from Debian packages
	scripts/lab up
bench: ## measurements against the docker CLI and the official scripts
	scripts/bench
dind-up: ## engine, images and stack, from nothing to running code
	scripts/up
dind-down: ## the stack's containers and network go; its data stays
	scripts/down
dind-test: test ## the same as test
dind-stats: stats ## the same as stats
dind-clean: clean ## the same as clean
restart: ## restarts the services and waits until they are healthy (SERVICE=)
	scripts/restart $(SERVICE)
rebuild: ## builds the images; replaces only services whose image changed (SERVICE=)
	scripts/rebuild $(SERVICE)
stats: ## what the inner daemon's containers use
	scripts/stats
clean: ## removes from the inner daemon what nobody uses; no volumes
	scripts/clean
backup: ## the workspace volume as an archive (FILE=)
	scripts/backup $(if $(FILE),'$(FILE)')
restore: ## the workspace volume from an archive (FILE=, asks)
	@$(if $(FILE),,echo 'restore: error: no archive is named' >&2; echo 'restore: hint: make restore FILE=workspaces-….tar.zst' >&2; exit 1)
	scripts/restore '$(FILE)'
logs: ## what the services have written (SERVICE=)
	scripts/logs $(SERVICE)
scan: ## known holes in the images, with Trivy
	scripts/scan
diagnostics: ## facts, states and log lines as one archive without secrets (FILE=)
	scripts/diagnostics $(if $(FILE),'$(FILE)')
