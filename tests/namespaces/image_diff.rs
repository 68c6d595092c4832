//! `scripts/lib/image_diff.py`, on archives made here.

use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

use crate::lab::Outcome;
use crate::support::{ensure, program, trial};

pub fn trials() -> Vec<Trial> {
    let need = program("python3");
    vec![trial("image_diff::files_and_settings_are_compared_and_times_counted", &need, compared)]
}

/// A file in a layer.
#[derive(Clone, Copy)]
struct Entry {
    path: &'static str,
    text: &'static str,
    mode: u32,
    time: u64,
}

const fn entry(path: &'static str, text: &'static str) -> Entry {
    Entry { path, text, mode: 0o644, time: 1000 }
}

fn tarball(entries: &[(&str, &[u8], u32, u64)]) -> Result<Vec<u8>, Failed> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, text, mode, time) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(text.len())?);
        header.set_mode(*mode);
        header.set_mtime(*time);
        archive.append_data(&mut header, path, *text)?;
    }
    Ok(archive.into_inner()?)
}

/// What `docker save` would give.
fn image(folder: &Path, name: &str, user: &str, layers: &[&[Entry]]) -> Result<String, Failed> {
    let config = format!(r#"{{"config": {{"User": "{user}", "Env": ["A=b"]}}, "created": "2026-01-01"}}"#);
    let names: Vec<_> = (0..layers.len()).map(|number| format!("{number}.tar")).collect();
    let manifest = format!(r#"[{{"Config": "config.json", "Layers": {names:?}}}]"#);
    let mut files =
        vec![("manifest.json".to_owned(), manifest.into_bytes()), ("config.json".into(), config.into_bytes())];
    for (name, layer) in names.iter().zip(layers) {
        let entries: Vec<_> =
            layer.iter().map(|entry| (entry.path, entry.text.as_bytes(), entry.mode, entry.time)).collect();
        files.push((name.clone(), tarball(&entries)?));
    }
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice(), 0o644, 0)).collect();
    let path = folder.join(name);
    std::fs::write(&path, tarball(&files)?)?;
    Ok(path.display().to_string())
}

/// Exit code and what was printed.
fn compare(arguments: &[&str]) -> Result<(Option<i32>, String, String), Failed> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lib/image_diff.py");
    let output = Command::new("python3").arg("-B").arg(script).args(arguments).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

fn compared() -> Outcome {
    let folder = tempfile::tempdir()?;
    let make = |name: &str, user: &str, layers: &[&[Entry]]| image(folder.path(), name, user, layers);
    let base = [entry("etc/a", "one"), entry("etc/gone", "x"), entry("opt/old/file", "x")];
    let first = make("first", "coder", &[&base])?;
    let expect = |arguments: &[&str], code: i32, out: &str, err: &str| -> Outcome {
        let found = compare(arguments)?;
        let as_expected = found.0 == Some(code) && found.1 == out && found.2.contains(err);
        ensure(as_expected, || format!("{arguments:?}: {found:?}, not {code} {out:?} {err:?}"))
    };
    expect(&[&first, &first], 0, "", "0 differences")?;
    // The same files, put together in another way: one of them replaced, others removed by a later layer.
    let all = [base[0], entry("etc/gone", "y"), base[2], entry("opt/old/more", "z")];
    let later = [entry("etc/.wh.gone", ""), entry("opt/old/.wh..wh..opq", ""), base[1], entry("opt/old/file", "x")];
    let layered = make("layered", "coder", &[&all, &later[..2], &later[2..]])?;
    expect(&[&first, &layered], 1, "layers: 1 | 3", "1 differences")?;
    let younger = make("younger", "coder", &[&[Entry { time: 2000, ..base[0] }, base[1], base[2]]])?;
    expect(&[&first, &younger], 0, "", "1 files differ in nothing but their time")?;
    expect(&["--times", &first, &younger], 1, "/etc/a: time 1000 | 2000", "1 differences")?;
    let other = make("other", "root", &[&[entry("etc/a", "two!"), Entry { mode: 0o755, ..base[1] }]])?;
    let (code, out, _) = compare(&[&first, &other])?;
    let lines: Vec<_> = out.lines().collect();
    ensure(code == Some(1) && lines.len() == 4, || out.clone())?;
    ensure(lines[0] == "configuration: config.User: coder | root", || out.clone())?;
    ensure(lines[1].starts_with("/etc/a: content ") && lines[1].ends_with(", size 3 | 4"), || out.clone())?;
    ensure(lines[2] == "/etc/gone: mode 0o644 | 0o755", || out.clone())?;
    ensure(lines[3] == "/opt/old/file: only in the first", || out.clone())
}
