//! The image: is it there, may it be fetched, what does it say about itself.

use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};

use super::chain::{chain, one_line};
use super::error::{ExecError, status_code};
use super::request::Pull;

/// What an image says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Reference as asked for.
    pub reference: String,
    /// Digest in the registry, else the daemon's own identifier.
    pub digest: String,
    /// USER.
    pub user: String,
    /// ENV.
    pub env: Vec<String>,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub command: Vec<String>,
    /// WORKDIR.
    pub workdir: String,
    /// VOLUME, sorted.
    pub volumes: Vec<String>,
    /// Architecture, as Go names it.
    pub architecture: String,
}

impl ImageFacts {
    fn new(reference: &str, inspect: ImageInspect) -> Self {
        let config = inspect.config.unwrap_or_default();
        let digests = inspect.repo_digests.unwrap_or_default();
        let digest = digests.iter().find_map(|full| full.split_once('@').map(|(_, digest)| digest.to_owned()));
        let mut volumes = config.volumes.unwrap_or_default();
        volumes.sort();
        Self {
            reference: reference.to_owned(),
            digest: digest.or(inspect.id).unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            env: config.env.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            workdir: config.working_dir.unwrap_or_default(),
            volumes,
            architecture: inspect.architecture.unwrap_or_default(),
        }
    }

    /// Value of a variable of the image.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().filter_map(|item| item.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// How the progress of a pull is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A moving line, for a terminal.
    Terminal,
    /// A line at the start and one at the end, for a log.
    Lines,
    /// Nothing.
    Silent,
}

/// Finds the image, pulling it as `policy` says.
pub async fn provide(
    docker: &Docker,
    reference: &str,
    policy: Pull,
    progress: Progress,
) -> Result<ImageFacts, ExecError> {
    if policy != Pull::Always {
        match docker.inspect_image(reference).await {
            Ok(inspect) => return Ok(ImageFacts::new(reference, inspect)),
            Err(error) if status_code(&error) != Some(404) => {
                return Err(ExecError::api(format!("inspect image {reference:?}"))(error));
            }
            Err(_) if policy == Pull::Never => {
                return Err(ExecError::Image {
                    reference: reference.to_owned(),
                    why: "the daemon does not have it, and --pull never forbids to fetch it".to_owned(),
                    code: "image_not_found",
                    hint: "pull it, or leave --pull never out",
                });
            }
            Err(_) => {}
        }
    }
    pull(docker, reference, progress).await?;
    let inspect =
        docker.inspect_image(reference).await.map_err(ExecError::api(format!("inspect image {reference:?}")))?;
    Ok(ImageFacts::new(reference, inspect))
}

async fn pull(docker: &Docker, reference: &str, progress: Progress) -> Result<(), ExecError> {
    // Without a tag the API would fetch every tag there is.
    let options = CreateImageOptionsBuilder::new().from_image(&with_tag(reference)).build();
    let mut events = docker.create_image(Some(options), None, None);
    let bar = show(reference, progress);
    let started = Instant::now();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if let Some(bar) = &bar {
                    bar.set_message(describe(&event));
                }
            }
            Err(error) => {
                if let Some(bar) = &bar {
                    bar.finish_and_clear();
                }
                return Err(pull_error(reference, &error));
            }
        }
    }
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    if progress != Progress::Silent {
        let seconds = Duration::from_secs(started.elapsed().as_secs());
        eprintln!("dindctl: pulled {reference} in {}", humantime::format_duration(seconds));
    }
    Ok(())
}

fn show(reference: &str, progress: Progress) -> Option<ProgressBar> {
    match progress {
        Progress::Silent => None,
        Progress::Lines => {
            eprintln!("dindctl: pulling {reference}");
            None
        }
        Progress::Terminal => {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} pulling {prefix} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.set_prefix(reference.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            Some(bar)
        }
    }
}

fn describe(event: &CreateImageInfo) -> String {
    let words = event.status.clone().unwrap_or_default();
    let sizes = event.progress_detail.as_ref().and_then(|detail| Some((detail.current?, detail.total?)));
    let (Some((current, total)), Some(layer)) = (sizes, event.id.as_deref()) else {
        return words;
    };
    let size = |bytes: i64| bytesize::ByteSize(bytes.unsigned_abs()).to_string();
    format!("{layer}: {words} {} of {}", size(current), size(total))
}

fn with_tag(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    if last.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

fn pull_error(reference: &str, error: &bollard::errors::Error) -> ExecError {
    let why = one_line(&chain(error));
    let lower = why.to_lowercase();
    let missing = ["not found", "manifest unknown", "does not exist", "access denied", "no matching manifest"];
    let (code, hint) = if missing.iter().any(|words| lower.contains(words)) {
        ("image_not_found", "check name and tag; a private image must be pulled by docker pull first")
    } else {
        ("pull_failed", "the daemon needs a way to the registry; images can also be loaded with docker load")
    };
    ExecError::Image { reference: reference.to_owned(), why, code, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("alpine", "alpine:latest")]
    #[case("alpine:3", "alpine:3")]
    #[case("host:5000/a", "host:5000/a:latest")]
    #[case("host:5000/a@sha256:00", "host:5000/a@sha256:00")]
    fn tags(#[case] reference: &str, #[case] want: &str) {
        assert_eq!(with_tag(reference), want);
    }

    #[test]
    fn a_missing_image_is_told_from_a_missing_network() {
        let say = |status_code, message: &str| {
            let message = message.to_owned();
            pull_error("x", &bollard::errors::Error::DockerResponseServerError { status_code, message }).problem()
        };
        let missing = say(404, "pull access denied for x, repository does not exist or may require 'docker login'");
        assert_eq!((missing.code.as_str(), missing.retryable), ("image_not_found", false));
        let offline = say(500, "Get \"https://r/v2/\": dial tcp: lookup r: no such host");
        assert_eq!((offline.code.as_str(), offline.retryable), ("pull_failed", true));
    }

    #[test]
    fn facts_come_from_the_inspection() {
        let text = r#"{"Id":"sha256:1","RepoDigests":["a@sha256:2"],"Architecture":"amd64",
            "Config":{"User":"app","Env":["A=b=c"],"Cmd":["x"],"WorkingDir":"/w"}}"#;
        let facts = ImageFacts::new("a", serde_json::from_str(text).unwrap());
        assert_eq!((facts.digest.as_str(), facts.user.as_str(), facts.workdir.as_str()), ("sha256:2", "app", "/w"));
        assert_eq!(facts.variable("A"), Some("b=c"));
    }
}
