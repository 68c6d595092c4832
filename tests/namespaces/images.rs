//! `scripts/build --image` on a copy of the repository, with an engine and a compiler that only write down what they are asked: what is
//! made, in which order, and what is left as it is.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use libtest_mimic::{Failed, Trial};

use crate::lab::Outcome;
use crate::support::{ensure, program, trial};

pub fn trials() -> Vec<Trial> {
    let need = program("git").and_then(|()| program("bash"));
    vec![
        trial("images::what_did_not_change_is_not_made_again", &need, unchanged),
        trial("images::a_change_remakes_what_is_made_of_it_and_nothing_else", &need, changed),
        trial("images::labels_name_the_commit_that_counts", &need, labels),
        trial("images::force_makes_the_named_one_alone", &need, forced),
        trial("images::tags_and_what_lies_beneath", &need, tags),
        trial("images::an_image_from_elsewhere_is_left_alone", &need, from_elsewhere),
        trial("images::wrong_words_are_refused_before_anything_is_built", &need, refused),
        trial("images::another_platform_needs_a_builder_and_a_binary", &need, platforms),
    ]
}

/// Everything, in the order in which it has to be made.
const ALL: [&str; 8] = [
    "dindctl/dind:dev",
    "dindctl/dind-rootless:dev",
    "dindctl/code-server-base:dev",
    "dindctl/code-server:dev",
    "dindctl/workspace:dev",
    "python:3.13-slim",
    "node:20-slim",
    "dindctl/shell:trixie",
];

/// An engine: an image is a file with its id, architecture and labels, and each build a line in the log.
const DOCKER: &str = r#"#!/bin/bash
set -euo pipefail
file() { printf '%s/images/%s' "$FAKE" "${1//[:\/]/_}"; }
case "$1 ${2:-}" in
    'version --format') echo 26.1.5 ;;
    'compose version' | 'buildx version') ;;
    'buildx inspect') printf 'Name: default\nPlatforms: %s\n' "$(cat "$FAKE/platforms")" ;;
    'buildx imagetools') echo sha256:from-a-registry ;;
    'image inspect')
        shift 2
        format=
        if [[ $1 == -f ]]; then format=$2; shift 2; fi
        [[ -e $(file "$1") ]] || exit 1
        mapfile -t image <"$(file "$1")"
        case $format in
            '' ) ;;
            '{{.Id}} {{.Architecture}}') echo "${image[0]} ${image[1]}" ;;
            '{{.Size}}') echo 1000000 ;;
            '{{index .Config.Labels "'*)
                name=${format#*\"} name=${name%%\"*}
                sed -n "s|^$name=||p" "$(file "$1")"
                ;;
            *) echo "no such format: $format" >&2; exit 3 ;;
        esac
        ;;
    'build '*)
        tag= labels=() arch=$(uname -m) options=()
        case $arch in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; esac
        shift
        while (($# > 1)); do
            case $1 in
                -t) tag=$2; shift ;;
                --label) labels+=("$2"); shift ;;
                --platform) arch=${2#linux/}; shift ;;
                --build-arg) options+=("$2"); shift ;;
                -f) [[ -e $2 ]] || exit 4; shift ;;
                --secret) shift ;;
                --no-cache) options+=(anew) ;;
                --load | --provenance=false) ;;
                *) echo "no such option: $1" >&2; exit 3 ;;
            esac
            shift
        done
        [[ -d $1 ]] || exit 4
        # The sources of the project's own images.
        labels+=(org.opencontainers.image.source=https://github.com/dindctl/dindctl)
        echo "$tag" >>"$FAKE/log"
        echo "$tag ${SOURCE_DATE_EPOCH:-never} ${options[*]}" >>"$FAKE/builds"
        printf '%s\n' "sha256:$(wc -l <"$FAKE/log")" "$arch" "${labels[@]}" >"$(file "$tag")"
        ;;
    *) echo "no such command: $*" >&2; exit 3 ;;
esac
"#;

/// A compiler whose program has the header of a static one, as far as scripts/build looks, and differs with the sources.
const CARGO: &str = r#"#!/bin/bash
set -euo pipefail
target=$(sed -n 's/.*--target \([^ ]*\).*/\1/p' <<<"$*")
mkdir -p "target/$target/dist"
{
    printf '#!/bin/sh\necho dindctl 1;exit\n'
    head -c 64 /dev/zero
    cat src/*.rs
} >"target/$target/dist/dindctl"
chmod +x "target/$target/dist/dindctl"
"#;

/// The copy of the repository.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Result<Self, Failed> {
        let scene = Self { folder: tempfile::tempdir()? };
        for folder in ["fake/bin", "fake/images", "repo/src"] {
            std::fs::create_dir_all(scene.path(folder))?;
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["scripts", "images"] {
            let copy = Command::new("cp").arg("-r").arg(source.join(name)).arg(scene.path("repo")).status()?;
            ensure(copy.success(), || format!("cp: {copy:?}"))?;
        }
        scene.write("repo/Cargo.toml", "[package]\nversion = \"1.2.3\"\nrust-version = \"1.0\"\n")?;
        for name in ["repo/Cargo.lock", "repo/build.rs", "repo/src/main.rs"] {
            scene.write(name, "first\n")?;
        }
        scene.write("repo/.gitignore", "/target\n")?;
        for (name, text) in
            [("docker", DOCKER), ("cargo", CARGO), ("rustc", "#!/bin/sh\necho rustc 1.99.0\n"), ("cc", "#!/bin/sh\n")]
        {
            let path = format!("fake/bin/{name}");
            scene.write(&path, text)?;
            std::fs::set_permissions(scene.path(&path), PermissionsExt::from_mode(0o755))?;
        }
        scene.write("fake/platforms", "linux/amd64, linux/arm64*")?;
        let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        scene.write("fake/images/debian_trixie-slim", &format!("sha256:debian\n{own}\n"))?;
        scene.git(&["init", "-q"])?;
        scene.commit()?;
        Ok(scene)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Outcome {
        Ok(std::fs::write(self.path(name), text)?)
    }

    /// Puts a line at the end of a file of the repository.
    fn touch(&self, name: &str) -> Outcome {
        let path = format!("repo/{name}");
        let text = std::fs::read_to_string(self.path(&path)).unwrap_or_default();
        self.write(&path, &(text + "# more\n"))
    }

    fn git(&self, arguments: &[&str]) -> Result<String, Failed> {
        let identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"];
        let mut command = Command::new("git");
        command.arg("-C").arg(self.path("repo")).args(identity).args(arguments);
        let output = command.env("GIT_CONFIG_GLOBAL", "/dev/null").output()?;
        ensure(output.status.success(), || format!("git {arguments:?}: {output:?}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn commit(&self) -> Result<String, Failed> {
        self.git(&["add", "-A"])?;
        self.git(&["commit", "-q", "-m", "a commit"])?;
        self.git(&["rev-parse", "HEAD"])
    }

    fn build(&self, arguments: &[&str]) -> Result<Output, Failed> {
        let search = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.path("fake/bin").display());
        let mut command = Command::new("bash");
        command.arg(self.path("repo/scripts/build")).args(arguments).env_clear();
        command.env("PATH", search).env("FAKE", self.path("fake")).env("HOME", self.folder.path());
        command.env("DINDCTL_LAB_DIR", self.path("lab")).env("GIT_CONFIG_GLOBAL", "/dev/null");
        Ok(command.output()?)
    }

    /// Builds, and says what was made.
    fn made(&self, arguments: &[&str]) -> Result<Vec<String>, Failed> {
        let _ = std::fs::remove_file(self.path("fake/builds"));
        let before = self.log().len();
        let output = self.build(arguments)?;
        ensure(output.status.success(), || format!("{arguments:?}: {output:?}"))?;
        Ok(self.log().split_off(before))
    }

    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("fake/log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The last build of an image: its date and its options.
    fn how(&self, image: &str) -> String {
        let text = std::fs::read_to_string(self.path("fake/builds")).unwrap_or_default();
        text.lines().rev().find_map(|line| line.strip_prefix(image)).unwrap_or_default().trim().to_owned()
    }

    fn label(&self, image: &str, name: &str) -> String {
        let file = format!("fake/images/{}", image.replace([':', '/'], "_"));
        let text = std::fs::read_to_string(self.path(&file)).unwrap_or_default();
        let start = format!("{name}=");
        text.lines().find_map(|line| line.strip_prefix(start.as_str())).unwrap_or_default().to_owned()
    }
}

fn same(found: &[String], expected: &[&str]) -> Outcome {
    ensure(found == expected, || format!("made {found:?}, not {expected:?}"))
}

/// Fails, names both in its message, and has built nothing.
fn refuses(scene: &Scene, arguments: &[&str], error: &str, hint: &str) -> Outcome {
    let before = scene.log().len();
    let output = scene.build(arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.code() == Some(1), || format!("{arguments:?}: {output:?}"))?;
    ensure(said.matches("error: ").count() == 1 && said.contains(error), || format!("{arguments:?}: {said}"))?;
    ensure(said.contains(&format!("build: hint: {hint}")), || format!("{arguments:?}: {said}"))?;
    ensure(scene.log().len() == before, || "something was built".into())
}

fn unchanged() -> Outcome {
    let scene = Scene::new()?;
    same(&scene.made(&["--image", "all"])?, &ALL)?;
    let output = scene.build(&["--image", "all"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for image in ALL {
        ensure(said.contains(&format!("build: {image}: nothing changed\n")), || said.clone())?;
    }
    // Neither a commit of something else nor a new date of a file is a change.
    scene.touch("README.md")?;
    scene.commit()?;
    Command::new("touch").arg(scene.path("repo/images/dind/Dockerfile")).status()?;
    same(&scene.made(&["--image", "all"])?, &[])?;
    same(&scene.log(), &ALL)
}

fn changed() -> Outcome {
    let scene = Scene::new()?;
    scene.made(&["--image", "all"])?;
    let [dind, rootless, base, editor, workspace, python, _, shell] = ALL;
    for (file, expected) in [
        ("images/dind-rootless/Dockerfile", vec![rootless]),
        ("images/dind/Dockerfile", vec![dind, rootless, base, editor]),
        ("src/main.rs", vec![dind, rootless, base, editor, workspace]),
        ("images/code-server/banner.sh", vec![editor]),
        ("images/workspace/profile.sh", vec![workspace]),
        ("images/shell/new-file", vec![shell]),
        ("images/README.md", vec![]),
    ] {
        scene.touch(file)?;
        same(&scene.made(&["--image", "all"])?, &expected).map_err(|failed| format!("{file}: {failed:?}"))?;
    }
    // Debian is new: so is what stands on it.
    let base = std::fs::read_to_string(scene.path("fake/images/debian_trixie-slim"))?;
    scene.write("fake/images/debian_trixie-slim", &base.replace("sha256:debian", "sha256:newer"))?;
    same(&scene.made(&["--image", "python"])?, &[python])?;
    same(&scene.made(&["--image", "dind-rootless"])?, &[dind, rootless])?;
    // A file that can be run is another one.
    std::fs::set_permissions(scene.path("repo/images/shell/new-file"), PermissionsExt::from_mode(0o755))?;
    same(&scene.made(&["--image", "shell"])?, &[shell])
}

fn labels() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.git(&["rev-parse", "HEAD"])?;
    scene.touch("README.md")?;
    scene.commit()?;
    scene.made(&["--image", "dind-rootless", "--image", "shell"])?;
    let revision = |image: &str| scene.label(image, "org.opencontainers.image.revision");
    let dind = "dindctl/dind:dev";
    ensure(revision(dind) == first, || "a commit of something else is no revision of an image".into())?;
    ensure(scene.label(dind, "org.opencontainers.image.version") == "1.2.3", || scene.how(dind))?;
    let date = scene.git(&["show", "-s", "--format=%ct", &first])?;
    ensure(scene.how(dind).starts_with(&format!("{date} ")), || scene.how(dind))?;
    let created = scene.label(dind, "org.opencontainers.image.created");
    ensure(created.len() == 20 && created.ends_with('Z'), || created.clone())?;
    // What is not committed yet counts where the image is made of it, and has no date.
    scene.touch("src/main.rs")?;
    scene.touch("images/shell/Dockerfile")?;
    scene.made(&["--image", "dind-rootless", "--image", "python"])?;
    for image in [dind, "dindctl/dind-rootless:dev"] {
        ensure(revision(image) == format!("{first}-dirty"), || revision(image))?;
        ensure(scene.label(image, "org.opencontainers.image.created").is_empty(), || image.into())?;
        ensure(scene.how(image).starts_with("never "), || scene.how(image))?;
    }
    ensure(revision("python:3.13-slim") == first, || revision("python:3.13-slim"))?;
    let second = scene.commit()?;
    same(&scene.made(&["--image", "dind-rootless"])?, &[])?;
    scene.made(&["--image", "dind", "--force"])?;
    ensure(revision(dind) == second, || revision(dind))
}

fn forced() -> Outcome {
    let scene = Scene::new()?;
    scene.made(&["--image", "all"])?;
    same(&scene.made(&["--image", "dind-rootless", "--force"])?, &["dindctl/dind-rootless:dev"])?;
    let how = scene.how("dindctl/dind-rootless:dev");
    ensure(how.contains("anew") && how.contains("BASE=dindctl/dind:dev"), || how.clone())?;
    // dind has another id then, so that what stands on it follows.
    same(&scene.made(&["--image", "dind", "--force"])?, &["dindctl/dind:dev"])?;
    same(&scene.made(&["--image", "dind-rootless"])?, &["dindctl/dind-rootless:dev"])
}

fn tags() -> Outcome {
    let scene = Scene::new()?;
    let made = scene.made(&["--image", "dind-rootless", "--tag", "ci"])?;
    same(&made, &["dindctl/dind:ci", "dindctl/dind-rootless:ci"])?;
    let made = scene.made(&["--image", "code-server", "--tag", "registry.example:5000/team/editor:7"])?;
    same(&made, &["registry.example:5000/team/code-server-base:7", "registry.example:5000/team/editor:7"])?;
    let how = scene.how("registry.example:5000/team/code-server-base:7");
    ensure(how.contains("PACKAGES=docker-buildx docker-compose"), || how.clone())?;
    let how = scene.how("registry.example:5000/team/editor:7");
    ensure(how.contains("BASE=registry.example:5000/team/code-server-base:7"), || how.clone())?;
    same(&scene.made(&["--image", "shell", "--tag", "mine/tools"])?, &["mine/tools:latest"])
}

fn from_elsewhere() -> Outcome {
    let scene = Scene::new()?;
    let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    scene.write("fake/images/python_3.13-slim", &format!("sha256:official\n{own}\n"))?;
    same(&scene.made(&["--image", "python", "--image", "node"])?, &["node:20-slim"])?;
    same(&scene.made(&["--image", "python", "--tag", "ours"])?, &["python:ours"])?;
    same(&scene.made(&["--image", "python", "--force"])?, &["python:3.13-slim"])
}

fn refused() -> Outcome {
    let scene = Scene::new()?;
    let all = "dind dind-rootless code-server workspace python node shell";
    refuses(&scene, &["--image", "dnd"], "unknown image \"dnd\"", &format!("did you mean dind? one of: {all}"))?;
    refuses(&scene, &["--image", "dind-rotless"], "unknown image", "did you mean dind-rootless? ")?;
    refuses(&scene, &["--image", "shell", "--image", "quux"], "unknown image \"quux\"", &format!("one of: {all}"))?;
    refuses(&scene, &["--image", "code-server-base"], "unknown image", "did you mean code-server? ")?;
    refuses(&scene, &["--image"], "--image needs a value", "scripts/build --help")?;
    refuses(&scene, &["--tag", "x"], "are about images", "scripts/build --image NAME")?;
    refuses(&scene, &["--image", "all", "--tag", "a/b:c"], "is the name of one image, and 7", "a tag alone")?;
    refuses(&scene, &["--image", "shell", "--tag", "a b"], "is no tag", "letters")?;
    refuses(&scene, &["--image", "shell", "--platform", "linux/s390x"], "linux/s390x is not supported", "linux/amd64")?;
    refuses(&scene, &["--images", "shell"], "unknown argument --images", "scripts/build --help")
}

fn platforms() -> Outcome {
    let scene = Scene::new()?;
    let (own, other, machine) =
        if cfg!(target_arch = "aarch64") { ("arm64", "amd64", "x86_64") } else { ("amd64", "arm64", "aarch64") };
    let foreign = format!("linux/{other}");
    scene.write("fake/platforms", &format!("linux/{own}, linux/386"))?;
    let words = format!("runs no programs of {foreign}");
    refuses(&scene, &["--image", "all", "--platform", &foreign], &words, "register QEMU")?;
    scene.write("fake/platforms", &format!("linux/{own}*, {foreign}"))?;
    let words = format!("target/dist/dindctl-{other} is missing");
    let hint = format!("rustup target add {machine}-unknown-linux-gnu");
    refuses(&scene, &["--image", "dind", "--platform", &format!("linux/{own},{foreign}")], &words, &hint)?;
    // The type and the machine of an ELF file (elf(5)); both are little-endian here.
    let file = format!("repo/target/dist/dindctl-{other}");
    let binary = |machine: u8| [&[0x7f, b'E', b'L', b'F'][..], &[0; 14], &[machine, 0], &[0; 44]].concat();
    let (right, wrong) = if other == "arm64" { (183, 62) } else { (62, 183) };
    std::fs::write(scene.path(&file), binary(wrong))?;
    std::fs::set_permissions(scene.path(&file), PermissionsExt::from_mode(0o755))?;
    let words = format!("is no program of {other} (ELF machine {wrong})");
    refuses(&scene, &["--image", "dind", "--platform", &foreign], &words, "remove it")?;
    std::fs::write(scene.path(&file), binary(right))?;
    let both = format!("linux/{own},{foreign}");
    let names = ["dind:dev", "dind-rootless:dev"].map(|name| format!("dindctl/{name}"));
    let foreign_names = names.clone().map(|name| format!("{name}-{other}"));
    let expected: Vec<_> = names.iter().chain(&foreign_names).map(String::as_str).collect();
    same(&scene.made(&["--image", "dind-rootless", "--platform", &both])?, &expected)?;
    let how = scene.how(expected[2]);
    ensure(how.contains(&format!("BINARY=target/dist/dindctl-{other}")), || how.clone())?;
    same(&scene.made(&["--image", "dind-rootless", "--platform", &both])?, &[])
}
