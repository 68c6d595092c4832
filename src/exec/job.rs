//! What the agent is told to run: a request and the facts about its image become a [`Job`].

use std::collections::BTreeMap;

use super::authorities;
use super::image::ImageFacts;
use super::network::Egress;
use super::program::Loaded;
use super::protocol::{self, Job, RunAs, Stage};
use super::rejection::Rejection;
use super::request::{self, Program, Request, WorkspaceMode};
use super::workspace::Workspace;

/// The user that nothing belongs to.
pub const NOBODY: u32 = 65_534;

/// Everything that is known before the container is described.
#[derive(Debug, Clone)]
pub struct Scene<'a> {
    /// What was asked for.
    pub request: &'a Request,
    /// The image.
    pub image: &'a ImageFacts,
    /// The directory it works in.
    pub workspace: Option<&'a Workspace>,
    /// The program text.
    pub loaded: Option<&'a Loaded>,
    /// Size of the caller's terminal (rows, columns).
    pub terminal: Option<(u16, u16)>,
    /// The network of `--network egress`.
    pub egress: Option<&'a Egress>,
    /// Authorities that the program trusts besides those of its image, PEM.
    pub authorities: Option<&'a str>,
}

/// The job of a scene.
pub fn job(scene: &Scene<'_>) -> Result<Job, Rejection> {
    let Scene { request, workspace, loaded, .. } = scene;
    let limits = &request.limits;
    let workdir = workdir(scene)?;
    Ok(Job {
        id: request.id.clone(),
        stages: vec![Stage { name: "run".to_owned(), argv: argv(scene)? }],
        files: loaded.iter().filter_map(|loaded| loaded.file.clone()).collect(),
        env: scene
            .authorities
            .into_iter()
            .flat_map(|_| authorities::variables())
            .chain(environment(scene, &workdir))
            .collect(),
        run_as: run_as(scene),
        workdir,
        workspace: workspace.map(|workspace| match workspace.mode {
            WorkspaceMode::Copy => protocol::Workspace::Copy { path: workspace.path.clone() },
            _ => protocol::Workspace::Bound { path: workspace.path.clone(), identity: workspace.identity },
        }),
        timeout_ms: millis(limits.timeout),
        cpu_time_ms: limits.cpu_time.map(millis),
        grace_ms: millis(limits.grace),
        max_output: limits.max_output,
        on_output_limit: limits.on_output_limit,
        stdin: request.stdin,
        tty: request.tty.then_some(scene.terminal.unwrap_or((24, 80))),
        watch_full: super::container::writable_places(scene),
        egress: scene.egress.map(|egress| egress.policy.clone()),
        authorities: scene.authorities.map(str::to_owned),
    })
}

fn millis(duration: std::time::Duration) -> u64 {
    // Bounded by parse::MAX_DURATION.
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Program and arguments. A language goes past the image's ENTRYPOINT; `--image` follows the rules of `docker run`.
pub fn argv(scene: &Scene<'_>) -> Result<Vec<String>, Rejection> {
    match &scene.request.program {
        Program::Language { language, args, .. } => {
            let file = scene.loaded.map(|loaded| loaded.path.as_str()).unwrap_or_default();
            let mut argv = language.command_for(file);
            argv.extend(args.iter().cloned());
            Ok(argv)
        }
        Program::Image { command } => {
            let mut argv = scene.image.entrypoint.clone();
            argv.extend(if command.is_empty() { scene.image.command.clone() } else { command.clone() });
            if argv.is_empty() {
                return Err(Rejection::new("--image", &scene.request.image, "has no command of its own")
                    .with_hint("write the command after --"));
            }
            Ok(argv)
        }
    }
}

/// Variables on top of the image's: the language's, then the caller's.
pub fn environment(scene: &Scene<'_>, workdir: &str) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    if scene.image.variable("HOME").is_none() {
        // The agent's own home is root's; a program needs one it can write to.
        env.insert("HOME".to_owned(), "/tmp".to_owned());
    }
    if scene.request.tty {
        env.insert("TERM".to_owned(), "xterm".to_owned());
    }
    if let Program::Language { language, .. } = &scene.request.program {
        env.extend(language.env_for(workdir));
    }
    env.extend(scene.request.env.clone());
    env
}

/// `--workdir`, else the workspace, else the image's for `--image`, else /tmp.
pub fn workdir(scene: &Scene<'_>) -> Result<String, Rejection> {
    if let Some(asked) = &scene.request.workdir {
        return Ok(asked.clone());
    }
    if let Some(workspace) = scene.workspace {
        return Ok(workspace.path.clone());
    }
    match &scene.request.program {
        // An image is as untrusted as the program in it.
        Program::Image { .. } if !scene.image.workdir.is_empty() => request::workdir(&scene.image.workdir)
            .map_err(|rejection| rejection.of("WORKDIR of the image").with_hint("give another one with --workdir")),
        Program::Image { .. } => Ok("/".to_owned()),
        Program::Language { .. } => Ok("/tmp".to_owned()),
    }
}

/// `--user`, else the owner of a writable workspace, else the image's USER, and never root unless asked for.
pub fn run_as(scene: &Scene<'_>) -> RunAs {
    if let Some(asked) = &scene.request.user {
        return RunAs::Spec(asked.clone());
    }
    if let Some(Workspace { mode: WorkspaceMode::ReadWrite, owner: (uid, gid), .. }) = scene.workspace
        && *uid != 0
    {
        return RunAs::Ids { uid: *uid, gid: *gid };
    }
    let user = scene.image.user.trim();
    let name = user.split(':').next().unwrap_or_default();
    let root = name.is_empty() || name == "root" || name.parse::<u32>().is_ok_and(|uid| uid == 0);
    if root { RunAs::Ids { uid: NOBODY, gid: NOBODY } } else { RunAs::Spec(user.to_owned()) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::exec::protocol::DirectoryIdentity;
    use crate::exec::request::validate;
    use crate::exec::settings::ExecSettings;
    use crate::exec::typed::{Caller, Typed};
    use rstest::rstest;

    pub fn request(change: impl FnOnce(&mut Typed)) -> Request {
        let mut typed = Typed { language: Some("python".into()), code: Some("1".into()), ..Typed::default() };
        change(&mut typed);
        let caller = Caller { terminal: true, ..Caller::default() };
        validate("abc", &typed, &ExecSettings::default(), &caller).unwrap()
    }

    pub fn image_request(command: &[&str]) -> Request {
        request(|typed| {
            typed.language = None;
            typed.code = None;
            typed.image = Some("app".into());
            typed.args = command.iter().map(|word| (*word).to_owned()).collect();
        })
    }

    pub fn scene<'a>(request: &'a Request, image: &'a ImageFacts) -> Scene<'a> {
        Scene { request, image, workspace: None, loaded: None, terminal: None, egress: None, authorities: None }
    }

    pub fn workspace(mode: WorkspaceMode, uid: u32) -> Workspace {
        let identity = DirectoryIdentity { ino: 1, ctime: 2, ctime_nsec: 3 };
        Workspace { path: "/work".into(), mode, identity, owner: (uid, uid) }
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|word| (*word).to_owned()).collect()
    }

    #[rstest]
    #[case::both(&["e"], &["c"], &[], Some(&["e", "c"][..]))]
    #[case::replaced(&["e"], &["c"], &["x", "y"], Some(&["e", "x", "y"][..]))]
    #[case::only_command(&[], &["c"], &[], Some(&["c"][..]))]
    #[case::only_entrypoint(&["e"], &[], &[], Some(&["e"][..]))]
    #[case::neither(&[], &[], &[], None)]
    fn entrypoint_and_command_as_docker_run_has_them(
        #[case] entrypoint: &[&str],
        #[case] command: &[&str],
        #[case] typed: &[&str],
        #[case] want: Option<&[&str]>,
    ) {
        let image = ImageFacts { entrypoint: words(entrypoint), command: words(command), ..ImageFacts::default() };
        let request = image_request(typed);
        assert_eq!(argv(&scene(&request, &image)).ok(), want.map(words));
    }

    #[test]
    fn a_language_goes_past_the_entrypoint() {
        let image = ImageFacts { entrypoint: words(&["trap"]), ..ImageFacts::default() };
        let request = request(|typed| typed.args = words(&["a"]));
        let loaded = Loaded { path: "/tmp/.dindctl/main.py".into(), file: None };
        let scene = Scene { loaded: Some(&loaded), ..scene(&request, &image) };
        assert_eq!(argv(&scene).unwrap(), words(&["python", "/tmp/.dindctl/main.py", "a"]));
    }

    #[rstest]
    #[case("", None, None, RunAs::Ids { uid: NOBODY, gid: NOBODY })]
    #[case("root", None, None, RunAs::Ids { uid: NOBODY, gid: NOBODY })]
    #[case("00:5", None, None, RunAs::Ids { uid: NOBODY, gid: NOBODY })]
    #[case("app:users", None, None, RunAs::Spec("app:users".into()))]
    #[case("app", Some("0"), None, RunAs::Spec("0".into()))]
    #[case("app", None, Some((WorkspaceMode::ReadWrite, 1000)), RunAs::Ids { uid: 1000, gid: 1000 })]
    #[case("app", None, Some((WorkspaceMode::ReadWrite, 0)), RunAs::Spec("app".into()))]
    #[case("", None, Some((WorkspaceMode::ReadOnly, 1000)), RunAs::Ids { uid: NOBODY, gid: NOBODY })]
    fn users(
        #[case] of_image: &str,
        #[case] asked: Option<&str>,
        #[case] folder: Option<(WorkspaceMode, u32)>,
        #[case] want: RunAs,
    ) {
        let image = ImageFacts { user: of_image.into(), ..ImageFacts::default() };
        let request = request(|typed| typed.user = asked.map(str::to_owned));
        let folder = folder.map(|(mode, uid)| workspace(mode, uid));
        let scene = Scene { workspace: folder.as_ref(), ..scene(&request, &image) };
        assert_eq!(run_as(&scene), want);
    }

    #[test]
    fn working_directories() {
        let image = ImageFacts { workdir: "/app".into(), ..ImageFacts::default() };
        let folder = workspace(WorkspaceMode::ReadOnly, 1);
        let (language, command) = (request(|_| ()), image_request(&[]));
        let asked = request(|typed| typed.workdir = Some("/x".into()));
        let at = |request: &Request, folder: Option<&Workspace>| {
            workdir(&Scene { workspace: folder, ..scene(request, &image) }).unwrap()
        };
        assert_eq!(at(&language, None), "/tmp");
        assert_eq!(at(&command, None), "/app");
        assert_eq!(at(&command, Some(&folder)), "/work");
        assert_eq!(at(&asked, Some(&folder)), "/x");
        let trap = ImageFacts { workdir: "/proc/self/fd/8".into(), ..ImageFacts::default() };
        assert!(workdir(&scene(&command, &trap)).unwrap_err().to_string().contains("/proc"));
    }

    #[test]
    fn authorities_are_found_by_variables_that_the_caller_may_set_himself() {
        let (image, typed) = (ImageFacts::default(), request(|typed| typed.env = words(&["SSL_CERT_FILE=/mine"])));
        let job = job(&Scene { authorities: Some("PEM"), ..scene(&typed, &image) }).unwrap();
        assert_eq!(job.authorities.as_deref(), Some("PEM"));
        assert_eq!(job.env["SSL_CERT_FILE"], "/mine");
        assert_eq!(job.env["REQUESTS_CA_BUNDLE"], authorities::BUNDLE);
        let job = super::job(&scene(&request(|_| ()), &image)).unwrap();
        assert_eq!((job.authorities, job.env.get("SSL_CERT_FILE")), (None, None));
    }

    #[test]
    fn the_callers_variables_win() {
        let image = ImageFacts { env: words(&["HOME=/home/app"]), ..ImageFacts::default() };
        let request = request(|typed| typed.env = words(&["PYTHONPATH=/mine"]));
        let env = environment(&scene(&request, &image), "/w");
        assert_eq!(env.get("PYTHONPATH").map(String::as_str), Some("/mine"));
        assert_eq!(env.get("HOME"), None);
        let env = environment(&scene(&request, &ImageFacts::default()), "/w");
        assert_eq!(env.get("HOME").map(String::as_str), Some("/tmp"));
    }
}
