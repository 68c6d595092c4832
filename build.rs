//! Tells the binary which commit it was built from: `DINDCTL_COMMIT` where it is set (image builds have no `.git`),
//! else what git says.
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=DINDCTL_COMMIT");
    println!("cargo::rerun-if-changed=src");
    let told = std::env::var("DINDCTL_COMMIT").ok().filter(|commit| !commit.is_empty());
    // Whoever tells us needs no new binary for each commit.
    let commit = told.or_else(of_head).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=DINDCTL_COMMIT={commit}");
}

/// The commit at hand; this runs again when that is another one.
fn of_head() -> Option<String> {
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
