//! The sandbox container as data: every safe default in one place.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountBindOptions, MountType,
    MountVolumeOptions, ResourcesUlimits,
};

use super::authorities;
use super::job::{self, Scene};
use super::network::Network;
use super::protocol::RunAs;
use super::rejection::Rejection;
use super::request::WorkspaceMode;

/// Folder of the agent in the sandbox.
pub const AGENT_FOLDER: &str = "/.dindctl";
/// The agent in the sandbox.
pub const AGENT_PROGRAM: &str = "/.dindctl/dindctl";
/// Its argument.
pub const AGENT_COMMAND: &str = "agent";

/// How the agent gets into the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentSource {
    /// Our own executable, on files that we share with the daemon.
    Bind(PathBuf),
    /// A volume of the daemon that holds it.
    Volume(String),
    /// Not at all: the program itself is the container's first process.
    Absent,
}

/// Places of a sandbox that the program can fill.
pub fn writable_places(scene: &Scene<'_>) -> Vec<String> {
    let mut places = vec!["/tmp".to_owned(), "/dev/shm".to_owned()];
    places.extend(volumes(scene));
    if let Some(workspace) = scene.workspace.filter(|workspace| workspace.mode != WorkspaceMode::ReadOnly) {
        places.push(workspace.path.clone());
    }
    places
}

/// VOLUMEs of the image that need a bounded place: as anonymous volumes they would escape the disk limit.
fn volumes(scene: &Scene<'_>) -> Vec<String> {
    let clean = |path: &String| super::request::workdir(path).ok();
    let mut paths: Vec<String> = scene.image.volumes.iter().filter_map(clean).collect();
    let workspace = scene.workspace.map(|workspace| workspace.path.as_str());
    paths.retain(|path| path != "/tmp" && path != "/dev/shm" && path != "/" && Some(path.as_str()) != workspace);
    paths.dedup();
    paths
}

/// Options of a writable tmpfs. Programs may be run from it, as compilers need; devices and set-uid files not.
pub fn tmpfs_options(bytes: u64) -> String {
    // A file needs a page anyway, so this many inodes suffice, and a million empty files are stopped.
    let inodes = (bytes / 4096).clamp(256, 1 << 20);
    format!("rw,exec,nosuid,nodev,size={bytes},nr_inodes={inodes},mode=1777")
}

#[allow(clippy::implicit_hasher)] // The API model has the standard one.
/// The container of a scene, owned by `labels`.
pub fn body(
    scene: &Scene<'_>,
    agent: &AgentSource,
    labels: HashMap<String, String>,
) -> Result<ContainerCreateBody, Rejection> {
    let request = scene.request;
    let mut all_labels: HashMap<String, String> = request.labels.clone().into_iter().collect();
    all_labels.extend(labels);
    let mut body = ContainerCreateBody {
        image: Some(request.image.clone()),
        labels: Some(all_labels),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        tty: Some(false),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        host_config: Some(host_config(scene, agent)),
        ..ContainerCreateBody::default()
    };
    if *agent == AgentSource::Absent {
        without_agent(scene, &mut body)?;
    } else {
        body.entrypoint = Some(vec![AGENT_PROGRAM.to_owned(), AGENT_COMMAND.to_owned()]);
        body.cmd = Some(Vec::new());
        body.user = Some("0:0".to_owned());
        // The agent enters the job's directory itself, after the drop of privileges.
        body.working_dir = Some("/".to_owned());
    }
    Ok(body)
}

/// The program itself as first process, under docker's own init.
fn without_agent(scene: &Scene<'_>, body: &mut ContainerCreateBody) -> Result<(), Rejection> {
    let workdir = job::workdir(scene)?;
    let mut argv = job::argv(scene)?;
    if let Some(loaded) = scene.loaded.filter(|loaded| loaded.file.is_some()) {
        // Standard input is the only way in that neither argv nor the environment shows.
        let script = "umask 077 && mkdir -p \"${1%/*}\" && cat >\"$1\" && shift && exec \"$@\" </dev/null";
        let shell = ["sh", "-c", script, "sh", &loaded.path].map(str::to_owned);
        argv.splice(0..0, shell);
    }
    let env = job::environment(scene, &workdir);
    body.env = Some(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect());
    body.entrypoint = Some(argv);
    body.cmd = Some(Vec::new());
    body.working_dir = Some(workdir);
    body.tty = Some(scene.request.tty);
    body.user = Some(match job::run_as(scene) {
        RunAs::Ids { uid, gid } => format!("{uid}:{gid}"),
        RunAs::Spec(text) => text,
    });
    Ok(())
}

fn host_config(scene: &Scene<'_>, agent: &AgentSource) -> HostConfig {
    let request = scene.request;
    let limits = &request.limits;
    let memory = i64::try_from(limits.memory).ok();
    let mut tmpfs = HashMap::from([("/tmp".to_owned(), tmpfs_options(limits.tmpfs))]);
    tmpfs.extend(volumes(scene).into_iter().map(|path| (path, tmpfs_options(limits.tmpfs))));
    if let Some(workspace) = scene.workspace.filter(|workspace| workspace.mode == WorkspaceMode::Copy) {
        tmpfs.insert(workspace.path.clone(), tmpfs_options(limits.tmpfs));
    }
    let with_agent = *agent != AgentSource::Absent;
    if with_agent && scene.authorities.is_some() {
        tmpfs.insert(authorities::FOLDER.to_owned(), authorities::TMPFS.to_owned());
    }
    HostConfig {
        memory,
        memory_swap: memory,
        nano_cpus: Some(limits.nano_cpus),
        pids_limit: Some(limits.pids),
        ulimits: Some(limits.ulimits.iter().map(ulimit).collect()),
        cap_drop: Some(vec!["ALL".to_owned()]),
        // For the agent alone; it gives them up for the program.
        cap_add: with_agent.then(|| capabilities(scene)),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        readonly_rootfs: Some(request.read_only),
        tmpfs: Some(tmpfs),
        shm_size: i64::try_from(limits.tmpfs).ok(),
        mounts: Some(mounts(scene, agent)),
        network_mode: Some(network_mode(scene)),
        ipc_mode: Some("private".to_owned()),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        // AutoRemove races with everything that asks how a container ended.
        auto_remove: Some(false),
        init: Some(!with_agent),
        runtime: request.runtime.clone(),
        ..HostConfig::default()
    }
}

/// What the agent needs: to act as the job's user, to end what that user runs, and to filter a network before.
fn capabilities(scene: &Scene<'_>) -> Vec<String> {
    let filter = scene.egress.map(|_| "NET_ADMIN");
    ["SETUID", "SETGID", "KILL"].into_iter().chain(filter).map(str::to_owned).collect()
}

fn network_mode(scene: &Scene<'_>) -> String {
    match (&scene.request.network, scene.egress) {
        (Network::Named(name), _) => name.clone(),
        (Network::Egress(_), Some(egress)) => egress.network.clone(),
        // Nothing prepared, nothing open.
        (Network::Egress(_), None) => "none".to_owned(),
    }
}

fn ulimit(limit: &super::parse::Ulimit) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(limit.name.clone()), soft: Some(limit.soft), hard: Some(limit.hard) }
}

fn mounts(scene: &Scene<'_>, agent: &AgentSource) -> Vec<Mount> {
    let mut mounts = Vec::new();
    match agent {
        AgentSource::Absent => {}
        AgentSource::Bind(path) => mounts.push(bind(&path.to_string_lossy(), AGENT_PROGRAM, true)),
        AgentSource::Volume(name) => mounts.push(Mount {
            typ: Some(MountType::VOLUME),
            source: Some(name.clone()),
            target: Some(AGENT_FOLDER.to_owned()),
            read_only: Some(true),
            volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
            ..Mount::default()
        }),
    }
    if let Some(workspace) = scene.workspace.filter(|workspace| workspace.mode != WorkspaceMode::Copy) {
        let read_only = workspace.mode == WorkspaceMode::ReadOnly;
        mounts.push(bind(&workspace.path, &workspace.path, read_only));
    }
    mounts
}

fn bind(source: &str, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        // A missing source must be an error: made up by the daemon it would be an empty directory of root.
        bind_options: Some(MountBindOptions { create_mountpoint: Some(false), ..MountBindOptions::default() }),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::egress::Policy;
    use super::super::image::ImageFacts;
    use super::super::job::tests::{image_request, request, scene, workspace};
    use super::super::network::Egress;
    use super::super::program::Loaded;
    use super::*;

    fn host(scene: &Scene<'_>, agent: &AgentSource) -> HostConfig {
        body(scene, agent, HashMap::new()).unwrap().host_config.unwrap()
    }

    #[test]
    fn every_safe_default_is_there() {
        let (request, image) = (request(|_| ()), ImageFacts::default());
        let agent = AgentSource::Bind("/usr/bin/dindctl".into());
        let labels = HashMap::from([("io.dindctl.run".to_owned(), "abc".to_owned())]);
        let body = body(&scene(&request, &image), &agent, labels.clone()).unwrap();
        assert_eq!(body.user.as_deref(), Some("0:0"));
        assert_eq!(body.labels, Some(labels));
        assert_eq!(body.entrypoint.unwrap(), [AGENT_PROGRAM, AGENT_COMMAND]);
        let host = body.host_config.unwrap();
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.cap_add.unwrap(), ["SETUID", "SETGID", "KILL"]);
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
        assert_eq!((host.memory, host.memory_swap), (Some(512 << 20), Some(512 << 20)));
        assert_eq!((host.pids_limit, host.nano_cpus), (Some(128), Some(1_000_000_000)));
        assert_eq!((host.network_mode.as_deref(), host.ipc_mode.as_deref()), (Some("none"), Some("private")));
        assert_eq!((host.readonly_rootfs, host.auto_remove, host.init), (Some(true), Some(false), Some(false)));
        assert_eq!(host.log_config.unwrap().typ.as_deref(), Some("none"));
        assert_eq!(host.tmpfs.unwrap()["/tmp"], "rw,exec,nosuid,nodev,size=67108864,nr_inodes=16384,mode=1777");
        assert_eq!((host.privileged, host.binds, host.devices, host.pid_mode), (None, None, None, None));
        assert!(host.mounts.unwrap().iter().all(|mount| mount.read_only == Some(true)));
    }

    #[test]
    fn a_filtered_network_needs_the_power_to_filter() {
        let image = ImageFacts::default();
        let request = request(|typed| typed.network = Some("egress".into()));
        let agent = AgentSource::Volume("v".into());
        let egress = Egress { network: "4ed5".into(), policy: Policy::default() };
        let ready = host(&Scene { egress: Some(&egress), ..scene(&request, &image) }, &agent);
        assert_eq!(ready.cap_add.unwrap(), ["SETUID", "SETGID", "KILL", "NET_ADMIN"]);
        assert_eq!(ready.network_mode.as_deref(), Some("4ed5"));
        // Nothing is open by accident.
        let unready = host(&scene(&request, &image), &agent);
        assert_eq!((unready.cap_add.unwrap().len(), unready.network_mode.as_deref()), (3, Some("none")));
    }

    #[test]
    fn authorities_have_a_place_that_only_the_agent_can_write() {
        let (request, image) = (request(|_| ()), ImageFacts::default());
        let scene = Scene { authorities: Some("PEM"), ..scene(&request, &image) };
        let options = host(&scene, &AgentSource::Volume("v".into())).tmpfs.unwrap()[authorities::FOLDER].clone();
        assert!(options.contains("mode=0755") && options.contains("noexec"), "{options}");
        assert!(!host(&scene, &AgentSource::Absent).tmpfs.unwrap().contains_key(authorities::FOLDER));
        assert!(!writable_places(&scene).iter().any(|place| place == authorities::FOLDER));
    }

    #[test]
    fn volumes_of_the_image_are_bounded() {
        let image =
            ImageFacts { volumes: vec!["/data/".into(), "/tmp".into(), "/work".into()], ..ImageFacts::default() };
        let (request, folder) = (request(|_| ()), workspace(WorkspaceMode::Copy, 5));
        let scene = Scene { workspace: Some(&folder), ..scene(&request, &image) };
        let mut paths: Vec<String> = host(&scene, &AgentSource::Absent).tmpfs.unwrap().into_keys().collect();
        paths.sort();
        assert_eq!(paths, ["/data", "/tmp", "/work"]);
        assert_eq!(writable_places(&scene), ["/tmp", "/dev/shm", "/data", "/work"]);
    }

    #[test]
    fn a_workspace_is_mounted_in_its_own_place_and_never_made_up() {
        let (request, image) = (request(|_| ()), ImageFacts::default());
        for (mode, read_only) in [(WorkspaceMode::ReadOnly, true), (WorkspaceMode::ReadWrite, false)] {
            let folder = workspace(mode, 5);
            let scene = Scene { workspace: Some(&folder), ..scene(&request, &image) };
            let mounts = host(&scene, &AgentSource::Volume("v".into())).mounts.unwrap();
            let [agent, bound] = mounts.as_slice() else { panic!("{mounts:?}") };
            assert_eq!(agent.volume_options.as_ref().unwrap().no_copy, Some(true));
            assert_eq!((bound.source.as_deref(), bound.target.as_deref()), (Some("/work"), Some("/work")));
            assert_eq!(bound.read_only, Some(read_only));
            assert_eq!(bound.bind_options.as_ref().unwrap().create_mountpoint, Some(false));
        }
    }

    #[test]
    fn without_an_agent_the_program_has_no_capabilities_and_no_root() {
        let image = ImageFacts { entrypoint: vec!["e".into()], ..ImageFacts::default() };
        let request = image_request(&["c"]);
        let plain = body(&scene(&request, &image), &AgentSource::Absent, HashMap::new()).unwrap();
        assert_eq!(plain.user.as_deref(), Some("65534:65534"));
        assert_eq!(plain.entrypoint.unwrap(), ["e", "c"]);
        let host = plain.host_config.unwrap();
        assert_eq!((host.cap_add, host.init), (None, Some(true)));
    }

    #[test]
    fn without_an_agent_the_text_still_stays_out_of_argv() {
        let (request, image) = (request(|typed| typed.code = Some("SECRET".into())), ImageFacts::default());
        let loaded = super::super::program::load(&request, None, &mut std::io::empty()).unwrap();
        let scene = Scene { loaded: loaded.as_ref(), ..scene(&request, &image) };
        let plain = body(&scene, &AgentSource::Absent, HashMap::new()).unwrap();
        assert!(!format!("{plain:?}").contains("SECRET"));
        assert_eq!(plain.entrypoint.unwrap().last().map(String::as_str), loaded.map(|l: Loaded| l.path).as_deref());
    }
}
