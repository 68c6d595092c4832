//! The text of a program, read from wherever it is.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::protocol::CodeFile;
use super::rejection::Rejection;
use super::request::{Program, Request, Source};
use super::workspace::Workspace;

/// Folder in the sandbox that program text is written to.
const FOLDER: &str = "/tmp/.dindctl";
/// Largest program text, bytes.
const LARGEST: u64 = 16 << 20;

/// Where the sandbox finds the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Path of the program text in the sandbox.
    pub path: String,
    /// The text, unless it lies in the workspace anyway.
    pub file: Option<CodeFile>,
}

/// Reads the program text. `None` for a command of an image, which has none.
pub fn load(
    request: &Request,
    workspace: Option<&Workspace>,
    stdin: &mut dyn Read,
) -> Result<Option<Loaded>, Rejection> {
    let Program::Language { language, source, .. } = &request.program else {
        return Ok(None);
    };
    let (name, text) = match source {
        Source::Text(code) => (None, code.clone().into_bytes()),
        Source::Stdin => (None, read_all("-", stdin)?),
        Source::File(path) => {
            if let Some(path) = workspace.and_then(|workspace| inside(path, workspace)) {
                return Ok(Some(Loaded { path, file: None }));
            }
            (plain_name(path), read_file(path)?)
        }
    };
    let path = format!("{FOLDER}/{}", name.unwrap_or_else(|| format!("main{}", language.suffix)));
    let (content, base64) = match String::from_utf8(text) {
        Ok(text) => (text, false),
        Err(error) => (STANDARD.encode(error.as_bytes()), true),
    };
    Ok(Some(Loaded { file: Some(CodeFile { path: path.clone(), content, base64 }), path }))
}

/// The real path of a file of the workspace: it runs in its place, beside the files it imports.
fn inside(path: &Path, workspace: &Workspace) -> Option<String> {
    let real = std::fs::canonicalize(path).ok()?;
    let below = real.starts_with(&workspace.path) && real.is_file();
    below.then(|| real.into_os_string().into_string().ok()).flatten()
}

/// The file's own name, for messages of its language. Only where it is harmless in every shell and message.
fn plain_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) && !name.starts_with(['.', '-']);
    plain.then(|| name.to_owned())
}

fn read_file(path: &PathBuf) -> Result<Vec<u8>, Rejection> {
    let name = path.display().to_string();
    let refuse = |why: String| {
        Rejection::new("FILE", &name, why).with_hint("give a readable file, - for standard input, or -c CODE")
    };
    if path.is_dir() {
        return Err(refuse("is a directory".to_owned()));
    }
    let mut file = File::open(path).map_err(|error| refuse(error.to_string()))?;
    read_all(&name, &mut file)
}

fn read_all(name: &str, reader: &mut dyn Read) -> Result<Vec<u8>, Rejection> {
    let refuse = |why: String| Rejection::new("FILE", name, why).with_hint("put large programs into a --workspace");
    let mut text = Vec::new();
    reader.take(LARGEST + 1).read_to_end(&mut text).map_err(|error| refuse(error.to_string()))?;
    if text.len() as u64 > LARGEST {
        return Err(refuse("is larger than 16 MiB".to_owned()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::request::{WorkspaceMode, WorkspaceSpec, validate};
    use crate::exec::settings::ExecSettings;
    use crate::exec::typed::{Caller, Typed};

    fn request(file: &str, code: Option<&str>) -> Request {
        let typed = Typed {
            language: Some("python".into()),
            file: code.is_none().then(|| file.to_owned()),
            code: code.map(str::to_owned),
            ..Typed::default()
        };
        validate("a", &typed, &ExecSettings::default(), &Caller::default()).unwrap()
    }

    #[test]
    fn text_and_standard_input_become_a_file() {
        let loaded = load(&request("", Some("print(1)")), None, &mut std::io::empty()).unwrap().unwrap();
        assert_eq!(loaded.path, "/tmp/.dindctl/main.py");
        assert_eq!(loaded.file.unwrap().content, "print(1)");
        let piped = load(&request("-", None), None, &mut &b"\xff1"[..]).unwrap().unwrap().file.unwrap();
        assert_eq!((piped.content.as_str(), piped.base64), ("/zE=", true));
    }

    #[test]
    fn a_file_keeps_its_name_and_one_of_the_workspace_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = std::fs::canonicalize(folder.path()).unwrap().join("app.mjs");
        std::fs::write(&path, "1").unwrap();
        let request = request(path.to_str().unwrap(), None);
        let loaded = load(&request, None, &mut std::io::empty()).unwrap().unwrap();
        assert_eq!(loaded.path, "/tmp/.dindctl/app.mjs");
        let spec = WorkspaceSpec { path: folder.path().into(), mode: WorkspaceMode::ReadOnly };
        let workspace = crate::exec::workspace::resolve(&spec, &[]).unwrap();
        let loaded = load(&request, Some(&workspace), &mut std::io::empty()).unwrap().unwrap();
        assert_eq!(loaded, Loaded { path: path.to_str().unwrap().into(), file: None });
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_reason() {
        let missing = load(&request("/nowhere/x.py", None), None, &mut std::io::empty()).unwrap_err();
        assert!(missing.to_string().contains("No such file"), "{missing}");
        let folder = load(&request("/", None), None, &mut std::io::empty()).unwrap_err();
        assert!(folder.to_string().contains("is a directory"), "{folder}");
        let endless = load(&request("-", None), None, &mut std::io::repeat(b'#')).unwrap_err();
        assert!(endless.to_string().contains("16 MiB"), "{endless}");
    }
}
