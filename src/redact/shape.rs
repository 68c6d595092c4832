/*!
Documents of which only what is named stays: what a container, an engine or a compose file is made of is known, and where people
write secrets into it is not.
*/
use serde_json::{Map, Value};

use super::text::{GAP, Redactor, secrets};

/// What may stay. A pattern is names with dots between them; `*` is any name, a list is as each of its elements, and only what is no
/// object stays at a pattern's end. Where it ends in `=names`, a list or map of variables stays by name.
#[derive(Debug)]
pub struct Shape(pub &'static [&'static str]);

/// Whether the value of a variable may stay beside its name.
pub type Harmless = fn(&str, &str) -> bool;

/// `docker inspect` of a container.
pub const INSPECT: Shape = Shape(&[
    "Id",
    "Name",
    "Created",
    "Image",
    "RestartCount",
    "Driver",
    "Platform",
    "State.Status",
    "State.Running",
    "State.Paused",
    "State.Restarting",
    "State.OOMKilled",
    "State.Dead",
    "State.Pid",
    "State.ExitCode",
    "State.Error",
    "State.StartedAt",
    "State.FinishedAt",
    "State.Health.Status",
    "State.Health.FailingStreak",
    "State.Health.Log.Start",
    "State.Health.Log.End",
    "State.Health.Log.ExitCode",
    "State.Health.Log.Output",
    "Config.Image",
    "Config.User",
    "Config.Tty",
    "Config.OpenStdin",
    "Config.StopSignal",
    "Config.StopTimeout",
    "Config.WorkingDir",
    "Config.Env=names",
    "Config.Healthcheck.Interval",
    "Config.Healthcheck.Timeout",
    "Config.Healthcheck.StartPeriod",
    "Config.Healthcheck.StartInterval",
    "Config.Healthcheck.Retries",
    "HostConfig.Privileged",
    "HostConfig.ReadonlyRootfs",
    "HostConfig.Init",
    "HostConfig.AutoRemove",
    "HostConfig.CapAdd",
    "HostConfig.CapDrop",
    "HostConfig.CgroupnsMode",
    "HostConfig.CgroupParent",
    "HostConfig.Cgroup",
    "HostConfig.PidMode",
    "HostConfig.IpcMode",
    "HostConfig.UsernsMode",
    "HostConfig.NetworkMode",
    "HostConfig.UTSMode",
    "HostConfig.Runtime",
    "HostConfig.Isolation",
    "HostConfig.RestartPolicy.Name",
    "HostConfig.RestartPolicy.MaximumRetryCount",
    "HostConfig.LogConfig.Type",
    "HostConfig.Memory",
    "HostConfig.MemorySwap",
    "HostConfig.MemoryReservation",
    "HostConfig.MemorySwappiness",
    "HostConfig.NanoCpus",
    "HostConfig.CpuShares",
    "HostConfig.CpuQuota",
    "HostConfig.CpuPeriod",
    "HostConfig.CpusetCpus",
    "HostConfig.PidsLimit",
    "HostConfig.OomKillDisable",
    "HostConfig.OomScoreAdj",
    "HostConfig.ShmSize",
    "HostConfig.Ulimits.Name",
    "HostConfig.Ulimits.Soft",
    "HostConfig.Ulimits.Hard",
    "HostConfig.Tmpfs.*",
    "HostConfig.Sysctls.*",
    "HostConfig.SecurityOpt",
    "HostConfig.Devices.PathOnHost",
    "HostConfig.Devices.PathInContainer",
    "HostConfig.PortBindings.*.HostIp",
    "HostConfig.PortBindings.*.HostPort",
    "Mounts.Type",
    "Mounts.Name",
    "Mounts.Destination",
    "Mounts.Driver",
    "Mounts.Mode",
    "Mounts.RW",
    "Mounts.Propagation",
    "AppArmorProfile",
    "ProcessLabel",
    "MountLabel",
    "NetworkSettings.Networks.*.IPAddress",
    "NetworkSettings.Networks.*.IPPrefixLen",
    "NetworkSettings.Networks.*.Gateway",
    "NetworkSettings.Networks.*.GlobalIPv6Address",
    "NetworkSettings.Ports.*.HostIp",
    "NetworkSettings.Ports.*.HostPort",
]);

/// `docker info`.
pub const INFO: Shape = Shape(&[
    "Containers",
    "ContainersRunning",
    "ContainersPaused",
    "ContainersStopped",
    "Images",
    "Driver",
    "DriverStatus",
    "Plugins.*",
    "MemoryLimit",
    "SwapLimit",
    "CpuCfsPeriod",
    "CpuCfsQuota",
    "CPUShares",
    "CPUSet",
    "PidsLimit",
    "IPv4Forwarding",
    "BridgeNfIptables",
    "BridgeNfIp6tables",
    "Debug",
    "OomKillDisable",
    "NGoroutines",
    "NFd",
    "SystemTime",
    "LoggingDriver",
    "CgroupDriver",
    "CgroupVersion",
    "KernelVersion",
    "OperatingSystem",
    "OSVersion",
    "OSType",
    "Architecture",
    "NCPU",
    "MemTotal",
    "DockerRootDir",
    "ExperimentalBuild",
    "ServerVersion",
    "Runtimes.*.path",
    "DefaultRuntime",
    "Swarm.LocalNodeState",
    "LiveRestoreEnabled",
    "Isolation",
    "InitBinary",
    "ContainerdCommit.ID",
    "RuncCommit.ID",
    "InitCommit.ID",
    "SecurityOptions",
    "DefaultAddressPools.Base",
    "DefaultAddressPools.Size",
    "FirewallBackend.Driver",
    "CDISpecDirs",
    "Warnings",
    "HttpProxy",
    "HttpsProxy",
    "NoProxy",
    "RegistryConfig.InsecureRegistryCIDRs",
    "RegistryConfig.Mirrors",
    "ServerErrors",
    "ClientErrors",
    "ClientInfo.Version",
    "ClientInfo.Context",
    "ClientInfo.Plugins.Name",
    "ClientInfo.Plugins.Version",
]);

/// `docker compose config`.
pub const COMPOSE: Shape = Shape(&[
    "name",
    "services.*.image",
    "services.*.platform",
    "services.*.privileged",
    "services.*.read_only",
    "services.*.restart",
    "services.*.user",
    "services.*.init",
    "services.*.runtime",
    "services.*.cgroup",
    "services.*.cgroup_parent",
    "services.*.pid",
    "services.*.ipc",
    "services.*.network_mode",
    "services.*.cap_add",
    "services.*.cap_drop",
    "services.*.security_opt",
    "services.*.stop_grace_period",
    "services.*.stop_signal",
    "services.*.container_name",
    "services.*.hostname",
    "services.*.profiles",
    "services.*.environment=names",
    "services.*.depends_on.*.condition",
    "services.*.depends_on.*.required",
    "services.*.deploy.mode",
    "services.*.deploy.replicas",
    "services.*.deploy.resources.limits.*",
    "services.*.deploy.resources.reservations.*",
    "services.*.mem_limit",
    "services.*.cpus",
    "services.*.pids_limit",
    "services.*.shm_size",
    "services.*.tmpfs",
    "services.*.ulimits.*",
    "services.*.ulimits.*.soft",
    "services.*.ulimits.*.hard",
    "services.*.sysctls.*",
    "services.*.healthcheck.interval",
    "services.*.healthcheck.timeout",
    "services.*.healthcheck.retries",
    "services.*.healthcheck.start_period",
    "services.*.healthcheck.start_interval",
    "services.*.healthcheck.disable",
    "services.*.logging.driver",
    "services.*.logging.options.max-size",
    "services.*.logging.options.max-file",
    "services.*.ports.mode",
    "services.*.ports.host_ip",
    "services.*.ports.target",
    "services.*.ports.published",
    "services.*.ports.protocol",
    "services.*.volumes.type",
    "services.*.volumes.source",
    "services.*.volumes.target",
    "services.*.volumes.read_only",
    "services.*.secrets.source",
    "services.*.secrets.target",
    "services.*.configs.source",
    "services.*.configs.target",
    "services.*.networks.*.ipv4_address",
    "services.*.networks.*.aliases",
    "services.*.networks.*",
    "networks.*.name",
    "networks.*.driver",
    "networks.*.external",
    "networks.*.internal",
    "networks.*.ipam.config.subnet",
    "volumes.*.name",
    "volumes.*.driver",
    "volumes.*.external",
    "secrets.*.name",
    "secrets.*.file",
    "secrets.*.external",
    "configs.*.name",
    "configs.*.file",
    "configs.*.external",
]);

/// `daemon.json`.
pub const DAEMON_JSON: Shape = Shape(&[
    "allow-direct-routing",
    "bip",
    "bridge",
    "builder.gc.enabled",
    "builder.gc.defaultKeepStorage",
    "cgroup-parent",
    "containerd",
    "containerd-namespace",
    "data-root",
    "debug",
    "default-address-pools.base",
    "default-address-pools.size",
    "default-cgroupns-mode",
    "default-ipc-mode",
    "default-network-opts.*.*",
    "default-runtime",
    "default-shm-size",
    "default-ulimits.*.Name",
    "default-ulimits.*.Soft",
    "default-ulimits.*.Hard",
    "dns",
    "dns-opts",
    "dns-search",
    "exec-opts",
    "exec-root",
    "experimental",
    "features.*",
    "firewall-backend",
    "fixed-cidr",
    "fixed-cidr-v6",
    "group",
    "hosts",
    "icc",
    "init",
    "init-path",
    "insecure-registries",
    "ip",
    "ip-forward",
    "ip-masq",
    "ip6tables",
    "iptables",
    "ipv6",
    "live-restore",
    "log-driver",
    "log-format",
    "log-level",
    "log-opts.max-size",
    "log-opts.max-file",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "mtu",
    "no-new-privileges",
    "no-proxy",
    "oom-score-adjust",
    "pidfile",
    "proxies.http-proxy",
    "proxies.https-proxy",
    "proxies.no-proxy",
    "http-proxy",
    "https-proxy",
    "raw-logs",
    "registry-mirrors",
    "runtimes.*.path",
    "seccomp-profile",
    "selinux-enabled",
    "shutdown-timeout",
    "storage-driver",
    "storage-opts",
    "tls",
    "tlscacert",
    "tlscert",
    "tlskey",
    "tlsverify",
    "userland-proxy",
    "userns-remap",
]);

/// The document with nothing in it that the shape does not name, and its strings redacted.
pub fn keep(value: &Value, shape: &Shape, harmless: Harmless, redactor: &mut Redactor) -> Value {
    let patterns: Vec<Vec<&str>> = shape.0.iter().map(|pattern| pattern.split('.').collect()).collect();
    let patterns: Vec<&[&str]> = patterns.iter().map(Vec::as_slice).collect();
    pick(value, &patterns, harmless, redactor).unwrap_or(Value::Null)
}

fn pick(value: &Value, patterns: &[&[&str]], harmless: Harmless, redactor: &mut Redactor) -> Option<Value> {
    match value {
        Value::Array(list) => {
            Some(list.iter().filter_map(|element| pick(element, patterns, harmless, redactor)).collect())
        }
        Value::Object(fields) => {
            let mut kept = Map::new();
            for (name, value) in fields {
                if patterns.iter().any(|pattern| matches!(pattern, [only] if only.strip_suffix("=names") == Some(name)))
                {
                    kept.insert(name.clone(), variables(value, harmless, redactor));
                    continue;
                }
                let below: Vec<&[&str]> = patterns
                    .iter()
                    .filter_map(|pattern| match pattern {
                        [first, rest @ ..] if first == name || *first == "*" => Some(rest),
                        _ => None,
                    })
                    .collect();
                if let Some(value) = (!below.is_empty()).then(|| pick(value, &below, harmless, redactor)).flatten() {
                    kept.insert(redactor.text(name), value);
                }
            }
            (!kept.is_empty() || patterns.iter().all(|pattern| !pattern.is_empty())).then_some(Value::Object(kept))
        }
        plain if patterns.iter().any(|pattern| pattern.is_empty()) => Some(strings(plain, redactor)),
        _ => None,
    }
}

/// Variables by name; the value stays where it is known to be harmless.
fn variables(value: &Value, harmless: Harmless, redactor: &mut Redactor) -> Value {
    let mut show = |name: &str, value: &str| {
        let value = if value.is_empty() {
            String::new()
        } else if harmless(name, value) {
            redactor.text(value)
        } else {
            GAP.to_owned()
        };
        format!("{}={value}", redactor.text(name))
    };
    match value {
        Value::Array(list) => list
            .iter()
            .filter_map(Value::as_str)
            .map(|line| line.split_once('=').map_or_else(|| line.to_owned(), |(name, value)| show(name, value)))
            .collect(),
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| show(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect(),
        _ => Value::Null,
    }
}

/// The document as it is, with its strings redacted, and with what stands behind names of secrets taken out.
pub fn strings(value: &Value, redactor: &mut Redactor) -> Value {
    match value {
        Value::String(text) => Value::String(redactor.text(text)),
        Value::Array(list) => list.iter().map(|element| strings(element, redactor)).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| {
                    let value = match value {
                        Value::String(text) if named(name, text) => Value::String(GAP.into()),
                        value => strings(value, redactor),
                    };
                    (redactor.text(name), value)
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

/// Whether a text is a secret for the name that it stands behind.
fn named(name: &str, text: &str) -> bool {
    !secrets(&serde_json::json!({ name: text }).to_string()).is_empty()
}

/// What in a document is secret by its looks or by the name it stands behind.
pub fn known_secrets(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => gather(text, found),
        Value::Array(list) => {
            // `["--password", "…"]`
            let words: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
            for pair in words.windows(2) {
                if let [name, text] = pair
                    && name.starts_with('-')
                    && !name.contains('=')
                    && !text.starts_with('-')
                    && named(name, text)
                {
                    found.push((*text).to_owned());
                }
            }
            list.iter().for_each(|element| known_secrets(element, found));
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Value::String(text) = value
                    && named(name, text)
                {
                    gather_encoded(text, found);
                    found.push(text.clone());
                }
                known_secrets(value, found);
            }
        }
        _ => {}
    }
}

/// Of a variable the whole value counts, with spaces and quotes.
fn gather(text: &str, found: &mut Vec<String>) {
    if let Some((name, value)) = text.split_once('=')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        && named(name, value)
    {
        found.push(value.to_owned());
    }
    for secret in secrets(text) {
        // The password without the name before it.
        found.extend(secret.split_once(':').map(|(_, password)| password.to_owned()));
        found.push(secret);
    }
}

/// `"auth": "bmFtZTpwYXNzd29yZA=="`
fn gather_encoded(text: &str, found: &mut Vec<String>) {
    use base64::Engine;
    let decoded =
        base64::engine::general_purpose::STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    found.extend(decoded.as_deref().and_then(|text| text.split_once(':')).map(|(_, password)| password.to_owned()));
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
