/*!
How the agent reaches the sandbox.

Next to the daemon our own executable is mounted. On a remote daemon it travels once: as an image of one file, from
which the daemon fills a named volume when a container that mounts it is created. That container is never started. It
becomes visible only after the volume is filled, so that its existence means: the agent is there. Its fixed name lets
exactly one of many concurrent callers do the work; the others wait for it.
*/

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ImportImageOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use bollard::{Docker, body_full};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use super::container::{AGENT_FOLDER, AGENT_PROGRAM, AgentSource};
use super::error::{ExecError, status_code};
use super::locality::Locality;

/// Label of the holder container, with the identity of the agent in it.
pub const AGENT_LABEL: &str = "io.dindctl.agent";
/// How long to wait for another caller that delivers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the agent is for this daemon, or why it cannot be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// What the sandbox mounts.
    pub source: AgentSource,
    /// Why there is no agent, for the caller to read.
    pub note: Option<String>,
}

/// Makes the agent available on the daemon. What goes wrong is a note, not an error: the program can run without.
pub async fn deliver(docker: &Docker, locality: &Locality) -> Delivered {
    if let Locality::Local(executable) = locality {
        return Delivered { source: AgentSource::Bind(executable.clone()), note: None };
    }
    match remote(docker).await {
        Ok(volume) => Delivered { source: AgentSource::Volume(volume), note: None },
        Err(why) => Delivered { source: AgentSource::Absent, note: Some(why) },
    }
}

async fn remote(docker: &Docker) -> Result<String, String> {
    let say = |error: ExecError| error.problem().message;
    let program = Path::new("/proc/self/exe");
    let identity = identity(program).map_err(|error| format!("cannot read our own executable: {error}"))?;
    let name = holder_name(&identity);
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if docker.inspect_container(&name, None).await.is_ok() {
            return Ok(name);
        }
        match create_holder(docker, &name, &identity).await {
            Ok(()) => return Ok(name),
            Err(error) => match status_code(&error) {
                // No such image: the agent has not travelled yet. Loading it twice does no harm.
                Some(404) => load(docker, &identity, program).await.map_err(say)?,
                // The name is taken: somebody else is filling the volume.
                Some(409) => tokio::time::sleep(Duration::from_millis(20)).await,
                _ => return Err(say(ExecError::api("create the container that holds the agent")(error))),
            },
        }
    }
    Err("another dindctl did not finish to deliver the agent".to_owned())
}

/// The image of one file, which is this very program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its reference.
    pub name: String,
    /// Whether the daemon got it by this call.
    pub brought: bool,
}

/// Makes sure that the daemon has the image.
pub async fn image(docker: &Docker) -> Result<Image, ExecError> {
    let program = Path::new("/proc/self/exe");
    let identity = identity(program).map_err(ExecError::local("read our own executable"))?;
    let name = image_name(&identity);
    match docker.inspect_image(&name).await {
        Ok(_) => Ok(Image { name, brought: false }),
        Err(error) if status_code(&error) == Some(404) => {
            load(docker, &identity, program).await.map(|()| Image { name, brought: true })
        }
        Err(error) => Err(ExecError::api("look for the agent's image")(error)),
    }
}

/// Removes the image, unless somebody uses it.
pub async fn forget_image(docker: &Docker, name: &str) -> Result<(), ExecError> {
    let options = RemoveImageOptionsBuilder::new().build();
    match docker.remove_image(name, Some(options), None).await {
        Err(error) if !matches!(status_code(&error), Some(404 | 409)) => {
            Err(ExecError::api("remove the agent's image")(error))
        }
        _ => Ok(()),
    }
}

/// Removes the holder, so that the next delivery fills the volume anew.
pub async fn forget(docker: &Docker, volume: &str) -> Result<(), ExecError> {
    let options = RemoveContainerOptionsBuilder::new().force(true).build();
    match docker.remove_container(volume, Some(options)).await {
        Err(error) if status_code(&error) != Some(404) => {
            Err(ExecError::api("remove the container that holds the agent")(error))
        }
        _ => Ok(()),
    }
}

async fn create_holder(docker: &Docker, name: &str, identity: &str) -> Result<(), bollard::errors::Error> {
    let mount = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.to_owned()),
        target: Some(AGENT_FOLDER.to_owned()),
        ..Mount::default()
    };
    let body = ContainerCreateBody {
        image: Some(image_name(identity)),
        entrypoint: Some(vec![AGENT_PROGRAM.to_owned()]),
        labels: Some([(AGENT_LABEL.to_owned(), identity.to_owned())].into()),
        host_config: Some(HostConfig {
            mounts: Some(vec![mount]),
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    docker.create_container(Some(options), body).await.map(drop)
}

/// Sends our own executable as an image of one file.
async fn load(docker: &Docker, identity: &str, program: &Path) -> Result<(), ExecError> {
    let version = docker.version().await.map_err(ExecError::api("tell its architecture"))?;
    let theirs = version.arch.unwrap_or_default();
    if theirs != go_architecture(std::env::consts::ARCH) {
        let why = format!("the daemon runs on {theirs}, and this dindctl is built for {}", std::env::consts::ARCH);
        return Err(ExecError::Agent { why });
    }
    let content = fs::read(program).map_err(ExecError::local("read our own executable"))?;
    let archive = archive(&content, &image_name(identity), &theirs);
    let archive = archive.map_err(ExecError::local("pack our own executable"))?;
    let options = ImportImageOptionsBuilder::new().quiet(true).build();
    let mut events = docker.import_image(options, body_full(archive.into()), None);
    while let Some(event) = events.next().await {
        event.map_err(ExecError::api("load the agent"))?;
    }
    Ok(())
}

/// An image in the form of `docker save`. The same bytes give the same image, so that callers who load it at the same
/// time do not leave several behind, as `docker import` would.
fn archive(program: &[u8], name: &str, architecture: &str) -> std::io::Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::with_capacity(program.len() + 4096));
    append(&mut layer, AGENT_FOLDER, None)?;
    append(&mut layer, AGENT_PROGRAM, Some(program))?;
    let layer = layer.into_inner()?;
    let config = serde_json::json!({
        "created": "1970-01-01T00:00:00Z", "architecture": architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&Sha256::digest(&layer)))]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "dindctl"}],
    });
    let config = config.to_string();
    let config_name = format!("{}.json", hex(&Sha256::digest(config.as_bytes())));
    let manifest = serde_json::json!([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut image = tar::Builder::new(Vec::with_capacity(layer.len() + 8192));
    append(&mut image, "layer.tar", Some(&layer))?;
    append(&mut image, &config_name, Some(config.as_bytes()))?;
    append(&mut image, "manifest.json", Some(manifest.to_string().as_bytes()))?;
    image.into_inner()
}

/// Appends a file, or a folder where there is no content.
fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, content: Option<&[u8]>) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(if content.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory });
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_size(content.map_or(0, |content| content.len() as u64));
    archive.append_data(&mut header, path.trim_start_matches('/'), content.unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Twelve hexadecimal digits that name this very executable: from its linker's build identifier where there is one,
/// else from all of its bytes, which takes far longer to read.
pub fn identity(program: &Path) -> std::io::Result<String> {
    let mut file = fs::File::open(program)?;
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    file.by_ref().take(64 * 1024).read_to_end(&mut head)?;
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(length.to_be_bytes());
    if let Some(build) = build_id(&head) {
        hash.update(build);
    } else {
        hash.update(&head);
        let mut piece = vec![0; 256 * 1024];
        loop {
            let count = file.read(&mut piece)?;
            if count == 0 {
                break;
            }
            hash.update(piece.get(..count).unwrap_or_default());
        }
    }
    Ok(hex(hash.finalize().get(..6).unwrap_or_default()))
}

/// The `NT_GNU_BUILD_ID` note, 20 bytes that hash what was linked.
fn build_id(head: &[u8]) -> Option<&[u8]> {
    let words: [u32; 3] = [4, 20, 3];
    let mut note: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    note.extend_from_slice(b"GNU\0");
    let start = head.windows(note.len()).position(|window| window == note)? + note.len();
    head.get(start..start + 20)
}

/// Name of holder and volume.
pub fn holder_name(identity: &str) -> String {
    format!("dindctl-agent-{identity}")
}

/// Reference of the image that the volume is filled from.
pub fn image_name(identity: &str) -> String {
    format!("dindctl/agent:{}-{identity}", env!("CARGO_PKG_VERSION"))
}

fn go_architecture(ours: &str) -> &str {
    match ours {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_follows_the_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        let of = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            identity(&path).unwrap()
        };
        let (one, same, other) = (of(&[7; 10_000]), of(&[7; 10_000]), of(&[[7; 9_999].as_slice(), &[8]].concat()));
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_eq!(one.len(), 12);
    }

    #[test]
    fn this_very_program_has_a_build_identifier() {
        let head = fs::read("/proc/self/exe").unwrap();
        assert!(build_id(&head[..64 * 1024]).is_some());
    }

    #[test]
    fn the_image_holds_one_program_and_is_always_the_same() {
        let bytes = archive(b"code", "dindctl/agent:1", "amd64").unwrap();
        assert_eq!(bytes, archive(b"code", "dindctl/agent:1", "amd64").unwrap());
        let mut image = tar::Archive::new(bytes.as_slice());
        let layer = image.entries().unwrap().next().unwrap().unwrap();
        let mut layer = tar::Archive::new(layer);
        let entries: Vec<(String, u32, u64)> = layer
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                (entry.path().unwrap().display().to_string(), header.mode().unwrap(), header.size().unwrap())
            })
            .collect();
        assert_eq!(entries, [(".dindctl".into(), 0o755, 0), (".dindctl/dindctl".into(), 0o755, 4)]);
    }
}
