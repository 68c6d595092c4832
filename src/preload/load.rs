//! Loading archives, several at a time.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::query_parameters::ImportImageOptionsBuilder;
use bollard::{Docker, body_try_stream};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::Broken;
use super::find::Candidate;
use super::known::{Entry, Known, Place};
use super::layout::{INDEX, Platform};
use super::pack::pack;
use super::report::{Archive, Status};
use super::source::Source;
use super::survey::{Format, Image, Survey, images, survey};
use crate::exec::chain::chain;
use crate::exec::error::{ExecError, status_code};

/// A large image on a slow disk takes its time.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Pieces between the reader and the daemon.
const AHEAD: usize = 8;
/// Bytes of a piece.
const PIECE: usize = 1 << 17;

/// Hears what is done.
pub trait Told: Send + Sync {
    /// An archive of so many bytes is read, and loaded if it is not known.
    fn begins(&self, archive: &Path, bytes: u64);
    /// So many bytes more were read of it; each is read twice at most.
    fn read(&self, archive: &Path, bytes: u64);
    /// This is what became of it.
    fn ends(&self, archive: &Archive);
    /// Something went wrong that costs nothing but time.
    fn warns(&self, message: &str);
}

/// The daemon, and what it has been given.
pub struct Loading {
    docker: Docker,
    machine: Platform,
    known: Mutex<Known>,
    again: bool,
    told: Arc<dyn Told>,
}

impl Loading {
    /// Asks the daemon what it runs on. `ours`: whether its data root is to be found under the same path here. `again`: archives are loaded even
    /// if they were before.
    pub async fn new(docker: Docker, ours: bool, again: bool, told: Arc<dyn Told>) -> Result<Self, ExecError> {
        let version = docker.version().await.map_err(ExecError::api("tell its platform"))?;
        let info = docker.info().await.map_err(ExecError::api("tell its data root"))?;
        let machine = Platform {
            os: version.os.unwrap_or_default(),
            architecture: version.arch.unwrap_or_default(),
            // A 32-bit ARM tells its variant in the machine's name: armv7l.
            variant: info.architecture.as_deref().and_then(variant),
        };
        let root = info.docker_root_dir.filter(|_| ours);
        let (known, why) = Known::read(root.as_deref().map(Path::new), info.driver.unwrap_or_default());
        if let Some(why) = why {
            told.warns(&why);
        }
        Ok(Self { docker: docker.with_timeout(PATIENCE), machine, known: Mutex::new(known), again, told })
    }

    /// Loads one, unless it is known, and says what became of it.
    pub async fn load(self: &Arc<Self>, candidate: Candidate) -> Archive {
        let begun = Instant::now();
        let mut archive = Archive::new(candidate.path.clone(), Status::Broken);
        let ended = self.attempt(&mut archive).await;
        match ended {
            Ok(status) => archive.status = status,
            Err(broken) => {
                let passed_over = matches!(broken, Broken::Foreign) && !candidate.named;
                archive.status = if passed_over { Status::Skipped } else { Status::Broken };
                archive.reason = Some(chain(&broken));
                archive.hint = Some(broken.hint());
            }
        }
        archive.ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.told.ends(&archive);
        archive
    }

    async fn attempt(self: &Arc<Self>, archive: &mut Archive) -> Result<Status, Broken> {
        let source = Source::recognise(&archive.path)?;
        if let Source::Tar(_, compression) = &source {
            archive.compression = Some(*compression);
        }
        let place = place(&source)?;
        let bytes = source.bytes().map_err(Broken::Read)?;
        archive.bytes = Some(bytes);
        if !self.again && self.known().has_place(place) {
            return Ok(Status::Known);
        }
        self.told.begins(&archive.path, bytes);
        let (source, seen) = {
            let told = Arc::clone(&self.told);
            beside(move || {
                let seen = survey(&source, &|bytes| told.read(source.path(), bytes));
                seen.map(|seen| (source, seen))
            })
            .await?
        };
        let (format, images) = images(&seen, &self.machine)?;
        archive.format = Some(format);
        archive.images = images.iter().flat_map(names).collect();
        let entry = Entry {
            driver: self.known().driver().to_owned(),
            sha256: seen.identity.clone(),
            place,
            name: archive.path.display().to_string(),
            images: archive.images.clone(),
        };
        let status = if !self.again && self.known().has_content(&seen.identity) {
            Status::Known
        } else if !self.again && self.has_all(&images).await? {
            Status::Present
        } else {
            self.send(source, place, format, seen, images).await?;
            Status::Loaded
        };
        let remembered = self.known().add(entry);
        if let Err(error) = remembered {
            let path = self.known().path().unwrap_or(Path::new("")).display().to_string();
            self.told
                .warns(&format!("cannot write {path}, and {} will be read again: {error}", archive.path.display()));
        }
        Ok(status)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Nothing panics while it is held, and what it holds is whole at any time.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the daemon has every image under every name.
    async fn has_all(&self, images: &[Image]) -> Result<bool, Broken> {
        for image in images {
            let mut references = image.names.clone();
            if references.is_empty() {
                references.push(image.id.clone());
            }
            for reference in references {
                match self.docker.inspect_image(&reference).await {
                    Ok(there) if there.id.as_ref() == Some(&image.id) || there.id == image.manifest => {}
                    Ok(_) => return Ok(false),
                    Err(error) if status_code(&error) == Some(404) => return Ok(false),
                    Err(error) => return Err(Broken::Refused(chain(&error))),
                }
            }
        }
        Ok(true)
    }

    async fn send(
        &self,
        source: Source,
        place: Place,
        format: Format,
        seen: Survey,
        images: Vec<Image>,
    ) -> Result<(), Broken> {
        let (sender, mut receiver) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
        let told = Arc::clone(&self.told);
        let reader = tokio::task::spawn_blocking(move || {
            let mut pieces = Pieces { sender, piece: Vec::with_capacity(PIECE), refused: false };
            let tell = |bytes| told.read(source.path(), bytes);
            let packed = pack(&source, format, &seen, &images, &mut pieces, &tell);
            // What is loaded and remembered is what was looked at.
            let packed =
                packed.and_then(|()| if self::place(&source)? == place { Ok(()) } else { Err(Broken::Changed) });
            if packed.is_err() {
                // The daemon must not take the beginning for the whole. Where it is gone already, it hears nothing.
                let _ = pieces.sender.blocking_send(Err(io::Error::other("the archive cannot be read to its end")));
            }
            (packed, pieces.refused)
        });
        let body = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        let mut events = Box::pin(self.docker.import_image(options, body_try_stream(body), None));
        let mut said = Ok(());
        while let Some(event) = events.next().await {
            if let Err(error) = event {
                said = Err(Broken::Refused(chain(&error)));
                break;
            }
        }
        // The reader sees by this that nobody takes anything any more.
        drop(events);
        let (packed, refused) = reader.await.map_err(|error| Broken::Damaged(format!("it cannot be read: {error}")))?;
        // What the reader met goes before what became of the request by it, and the other way round.
        if refused { said.and(packed) } else { packed.and(said) }
    }
}

/// Work that takes the disk and the processor, beside what waits for the daemon.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Broken> + Send + 'static) -> Result<T, Broken> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(Broken::Damaged(format!("it cannot be read: {error}"))))
}

/// Of an archive, or of the index of a folder.
fn place(source: &Source) -> Result<Place, Broken> {
    let file = match source {
        Source::Tar(path, _) => fs::metadata(path),
        Source::Folder(path) => fs::metadata(path.join(INDEX)),
    };
    Ok(Place::of(&file.map_err(Broken::Read)?))
}

fn names(image: &Image) -> Vec<String> {
    if image.names.is_empty() { vec![image.id.clone()] } else { image.names.clone() }
}

/// `v7` of `armv7l`.
fn variant(machine: &str) -> Option<String> {
    let digits: String = machine.strip_prefix("armv")?.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("v{digits}")).filter(|variant| variant.len() > 1)
}

/// Pieces on their way to the daemon.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
    /// Whether the other side takes nothing any more.
    refused: bool,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        if !piece.is_empty() && self.sender.blocking_send(Ok(piece.into())).is_err() {
            self.refused = true;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}
