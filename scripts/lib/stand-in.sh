# shellcheck shell=bash
# shellcheck disable=SC2154 # from common.sh and images.sh
# Images of others that the stack takes from a registry, made from Debian packages where a test needs them. Sourced after images.sh.

# prometheus_image TAG: Prometheus and promtool under the paths of the image that compose/compose.monitoring.yaml names.
prometheus_image() {
    if image_exists "$1"; then return; fi
    base_ready "$debian"
    run_quietly "building $1" docker build -t "$1" - <<END
FROM $debian
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates curl prometheus \
    && rm -rf /var/lib/apt/lists/* && install -d /etc/prometheus /prometheus
ENTRYPOINT ["prometheus"]
END
}
