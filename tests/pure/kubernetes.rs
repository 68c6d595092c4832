//! The manifests for Kubernetes fit each other and this program. That they are manifests at all is for the schemas (`scripts/test check`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dindctl::cli::config::keys::{self, KEYS};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compose/kubernetes")
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_multiple(&text).unwrap()
}

/// What `kubectl apply -k FOLDER` applies, by kind and name.
fn applied(name: &str) -> BTreeMap<(String, String), Value> {
    let folder = folder().join(name);
    let kustomization = documents(&folder.join("kustomization.yaml")).remove(0);
    let mut all = BTreeMap::new();
    for resource in kustomization["resources"].as_array().unwrap() {
        let path = folder.join(resource.as_str().unwrap());
        if path.is_dir() {
            all.extend(applied(&format!("{name}/{}", resource.as_str().unwrap())));
            continue;
        }
        for document in documents(&path) {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let known = all.insert((text(&document["kind"]), text(&document["metadata"]["name"])), document);
            assert!(known.is_none(), "{known:?} comes twice");
        }
    }
    // Every file of the folder is used.
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    for file in files.filter(|file| file != "kustomization.yaml") {
        let resources = kustomization["resources"].as_array().unwrap();
        assert!(resources.contains(&Value::from(file.clone())), "{file} of {name} is applied by nobody");
    }
    all
}

/// The template of pods, and all of its containers.
fn pods() -> Vec<(String, Value, Vec<Value>)> {
    let (sidecar, pool) = (applied("sidecar"), applied("pool"));
    let deployment = &sidecar[&("Deployment".into(), "workspace".into())];
    let set = &pool[&("StatefulSet".into(), "dind".into())];
    let of = |owner: &Value| {
        let spec = &owner["spec"]["template"]["spec"];
        let list = |name: &str| spec[name].as_array().cloned().unwrap_or_default();
        (
            owner["metadata"]["name"].as_str().unwrap().to_owned(),
            owner.clone(),
            [list("initContainers"), list("containers")].concat(),
        )
    };
    vec![of(deployment), of(set)]
}

fn variables(container: &Value) -> BTreeMap<String, String> {
    let list = container["env"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list.iter().map(|entry| (text(&entry["name"]), text(&entry["value"]))).collect()
}

#[test]
fn selectors_find_the_pods_they_are_for() {
    for (name, owner, _) in pods() {
        let labels = &owner["spec"]["template"]["metadata"]["labels"];
        assert_eq!(owner["spec"]["selector"]["matchLabels"], *labels, "{name}");
    }
    let pool = applied("pool");
    let labels = &pool[&("StatefulSet".into(), "dind".into())]["spec"]["template"]["metadata"]["labels"];
    for name in ["dind", "dind-any"] {
        assert_eq!(pool[&("Service".into(), name.into())]["spec"]["selector"], *labels, "{name}");
    }
    assert_eq!(pool[&("PodDisruptionBudget".into(), "dind".into())]["spec"]["selector"]["matchLabels"], *labels);
    let policy = &pool[&("NetworkPolicy".into(), "dind".into())]["spec"];
    assert_eq!(policy["podSelector"]["matchLabels"], *labels);
    assert_eq!(policy["policyTypes"], serde_json::json!(["Ingress"]));
    let set = &pool[&("StatefulSet".into(), "dind".into())]["spec"];
    assert_eq!(set["serviceName"], "dind");
    assert_eq!(pool[&("Service".into(), "dind".into())]["spec"]["clusterIP"], "None");
    assert_eq!(set["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"], *labels);
}

#[test]
fn ports_are_named_alike_and_are_those_of_tls() {
    let pool = applied("pool");
    let set = &pool[&("StatefulSet".into(), "dind".into())]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(set["ports"], serde_json::json!([{"name": "docker-tls", "containerPort": 2376}]));
    for name in ["dind", "dind-any"] {
        let port = &pool[&("Service".into(), name.into())]["spec"]["ports"];
        assert_eq!(*port, serde_json::json!([{"name": "docker-tls", "port": 2376, "targetPort": "docker-tls"}]));
    }
    let rule = &pool[&("NetworkPolicy".into(), "dind".into())]["spec"]["ingress"][0];
    assert_eq!(rule["ports"], serde_json::json!([{"protocol": "TCP", "port": "docker-tls"}]));
    let listen = variables(set)["DINDCTL_LISTEN"].clone();
    assert!(listen.ends_with(",tcp://0.0.0.0:2376") && variables(set)["DOCKER_TLS_CERTDIR"] == "/certs", "{listen}");
    // Nothing listens beside the pool.
    let (_, _, sidecar) = pods().remove(0);
    assert!(sidecar.iter().all(|container| !container.to_string().contains("tcp://") && container["ports"].is_null()));
}

#[test]
fn only_what_has_a_daemon_is_privileged_and_everything_is_bounded() {
    for (name, owner, containers) in pods() {
        let spec = &owner["spec"]["template"]["spec"];
        assert_eq!(spec["automountServiceAccountToken"], false, "{name}");
        assert_eq!(spec["enableServiceLinks"], false, "{name}");
        for word in ["hostPath", "hostNetwork", "hostPID", "hostIPC"] {
            assert!(!owner.to_string().contains(word), "{name} has {word}");
        }
        for container in containers {
            let place = format!("{} of {name}", container["name"]);
            let security = &container["securityContext"];
            if container["name"] == "dind" {
                assert_eq!(security["privileged"], true, "{place}");
            } else {
                assert_eq!(security["allowPrivilegeEscalation"], false, "{place}");
                assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]), "{place}");
                assert_eq!(security["runAsNonRoot"], true, "{place}");
            }
            for kind in ["requests", "limits"] {
                for what in ["cpu", "memory"] {
                    assert!(container["resources"][kind][what].is_string(), "{place}: no {what} in {kind}");
                }
            }
            let tag = container["image"].as_str().unwrap().split_once(':').map(|(_, tag)| tag);
            assert!(tag.is_some_and(|tag| tag != "latest"), "{place}");
        }
    }
}

#[test]
fn every_daemon_is_asked_and_has_time_to_end_and_a_disk() {
    let deadline = |variables: &BTreeMap<String, String>, name: &str| -> Duration {
        let default = KEYS.iter().find(|key| key.env == name).unwrap().default;
        keys::parse_duration(variables.get(name).map_or(default, String::as_str)).unwrap()
    };
    for (name, owner, containers) in pods() {
        let dind = containers.iter().find(|container| container["name"] == "dind").unwrap();
        let variables = variables(dind);
        let grace =
            Duration::from_secs(owner["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap());
        let own = deadline(&variables, "DINDCTL_STOP_TIMEOUT");
        assert!(grace >= own + Duration::from_secs(20), "{name}: {own:?} of {grace:?}");
        assert_eq!(deadline(&variables, "DINDCTL_OUTER_STOP_TIMEOUT"), grace, "{name}");
        for (probe, command) in [("startupProbe", "health"), ("readinessProbe", "health"), ("livenessProbe", "status")]
        {
            let exec = &dind[probe]["exec"]["command"];
            assert_eq!(*exec, serde_json::json!(["dindctl", command]), "{name} {probe}");
            assert!(dind[probe]["timeoutSeconds"].as_u64().is_some_and(|seconds| seconds >= 5), "{name} {probe}");
        }
        let mounts: Vec<&str> =
            dind["volumeMounts"].as_array().unwrap().iter().filter_map(|mount| mount["mountPath"].as_str()).collect();
        assert!(
            ["/var/lib/docker", "/var/lib/containerd"].iter().all(|path| mounts.contains(path)),
            "{name}: {mounts:?}"
        );
        // Every mount has its volume.
        let spec = &owner["spec"]["template"]["spec"];
        let mut volumes: Vec<String> = Vec::new();
        for list in [&spec["volumes"], &owner["spec"]["volumeClaimTemplates"]] {
            for volume in list.as_array().into_iter().flatten() {
                volumes.extend(volume["name"].as_str().or(volume["metadata"]["name"].as_str()).map(str::to_owned));
            }
        }
        for container in &containers {
            for mount in container["volumeMounts"].as_array().unwrap() {
                assert!(volumes.iter().any(|volume| mount["name"] == volume.as_str()), "{name}: no volume {mount}");
            }
        }
    }
}

/// A path means the same to the client and to the daemon, and the socket is where it is looked for.
#[test]
fn the_sidecar_and_its_workspace_share_socket_and_files() {
    let (_, owner, containers) = pods().remove(0);
    assert_eq!(containers[0]["restartPolicy"], "Always", "it is no sidecar");
    let (dind, workspace) = (variables(&containers[0]), variables(&containers[1]));
    assert!(dind["DINDCTL_LISTEN"].split(',').any(|address| address == workspace["DOCKER_HOST"]));
    assert_eq!(dind["DIND_WORKSPACE_PATH"], workspace["DIND_WORKSPACE_PATH"]);
    assert_eq!(dind["DINDCTL_SOCKET_GROUP"], containers[1]["securityContext"]["runAsGroup"].to_string());
    assert_eq!(
        owner["spec"]["template"]["spec"]["securityContext"]["fsGroup"],
        containers[1]["securityContext"]["runAsGroup"]
    );
    let shared = |path: &str| {
        let at = |container: &Value| {
            container["volumeMounts"].as_array().unwrap().iter().find(|mount| mount["mountPath"] == path).cloned()
        };
        assert!(at(&containers[0]).is_some() && at(&containers[0]) == at(&containers[1]), "{path}");
    };
    shared("/run/dind");
    shared(&workspace["DIND_WORKSPACE_PATH"]);
}

#[test]
fn what_they_ask_of_dindctl_exists() {
    for (name, _, containers) in pods() {
        for container in containers {
            for (variable, value) in variables(&container) {
                if let Some(key) = KEYS.iter().find(|key| key.env == variable) {
                    assert_eq!((key.check)(&value), Ok(()), "{name}: {variable}");
                } else {
                    assert!(!variable.starts_with("DINDCTL_"), "{name}: {variable} means nothing");
                }
            }
        }
    }
    for command in ["health", "status", "init", "certificates"] {
        let said = Command::new(env!("CARGO_BIN_EXE_dindctl")).args([command, "--help"]).output().unwrap();
        assert!(said.status.success(), "dindctl {command} --help");
    }
}
