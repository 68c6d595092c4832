use serde_json::json;

use super::super::fields::{COMPOSE, DAEMON_JSON, INSPECT};
use super::*;

fn kept(value: &Value, shape: &Shape) -> Value {
    keep(value, shape, |name, _| name == "DINDCTL_MTU", &mut Redactor::default())
}

#[test]
fn of_a_container_only_what_is_named_stays() {
    let found = json!([{
        "Id": "91bc", "Args": ["--password", "one"], "Path": "/two",
        "Config": {
            "Env": ["DINDCTL_MTU=1400", "NAME=three", "EMPTY=", "BARE"], "Cmd": ["four"], "Labels": { "five": "six" },
            "Healthcheck": { "Test": ["CMD", "seven"], "Retries": 3 },
        },
        "HostConfig": { "Memory": 5, "LogConfig": { "Type": "x", "Config": { "eight": "nine" } } },
        "NetworkSettings": { "Networks": { "n": { "IPAddress": "10.0.0.1", "DriverOpts": { "ten": "x" } } } },
    }]);
    assert_eq!(
        kept(&found, &INSPECT),
        json!([{
            "Id": "91bc",
            "Config": {
                "Env": ["DINDCTL_MTU=1400", "NAME=(left out)", "EMPTY=", "BARE"], "Healthcheck": { "Retries": 3 },
            },
            "HostConfig": { "Memory": 5, "LogConfig": { "Type": "x" } },
            "NetworkSettings": { "Networks": { "n": { "IPAddress": "10.0.0.1" } } },
        }])
    );
}

#[test]
fn of_compose_and_the_daemon_too() {
    let found = json!({ "name": "x", "services": { "a": {
        "image": "i", "command": ["one"], "build": { "args": { "two": "three" } }, "labels": { "four": "five" },
        "environment": { "DINDCTL_MTU": "1400", "P": "six", "N": null }, "networks": { "default": null },
        "deploy": { "resources": { "limits": { "cpus": "2" } } },
    }}, "secrets": { "s": { "name": "x_s", "file": "/f", "content": "seven", "environment": "E" } }, "x-more": "eight" });
    assert_eq!(
        kept(&found, &COMPOSE),
        json!({ "name": "x", "services": { "a": {
            "image": "i", "environment": ["DINDCTL_MTU=1400", "N=(left out)", "P=(left out)"],
            "networks": { "default": null }, "deploy": { "resources": { "limits": { "cpus": "2" } } },
        }}, "secrets": { "s": { "name": "x_s", "file": "/f" } } })
    );
    let found = json!({ "mtu": 1400, "labels": ["one=two"], "proxies": { "http-proxy": "http://u:three@p:1" }, "log-opts": { "token": "four" } });
    assert_eq!(
        kept(&found, &DAEMON_JSON),
        json!({ "mtu": 1400, "proxies": { "http-proxy": "http://(left out)@p:1" }, "log-opts": {} })
    );
}

#[test]
fn strings_of_other_documents_are_redacted_and_it_stays_json() {
    let found = json!({ "a": ["x PASSWORD=it's \"1\"", 1, null], "token": "abc", "token_file": "/f", "key": "k" });
    assert_eq!(
        strings(&found, &mut Redactor::default()),
        json!({ "a": ["x PASSWORD=(left out) \"1\"", 1, null], "token": "(left out)", "token_file": "/f", "key": "k" })
    );
}
