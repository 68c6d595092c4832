use std::cell::Cell;
use std::io::Write;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::preload::layout::Platform;
use crate::preload::pack::pack;
use crate::preload::source::Compression;

fn machine() -> Platform {
    Platform { os: "linux".into(), architecture: "amd64".into(), variant: None }
}

fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn sha(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// A layout of one image with one layer.
fn layout() -> Vec<(String, Vec<u8>)> {
    layout_of(b"a layer".to_vec())
}

fn layout_of(layer: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let config = json!({"os": "linux", "architecture": "amd64"}).to_string().into_bytes();
    let of = |content: &[u8], kind: &str| json!({"digest": format!("sha256:{}", sha(content)), "size": content.len(), "mediaType": kind});
    let manifest =
        json!({"config": of(&config, "application/vnd.oci.image.config.v1+json"), "layers": [of(&layer, "")]});
    let manifest = manifest.to_string().into_bytes();
    let mut descriptor = of(&manifest, "");
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": "app:1"});
    let index = json!({"manifests": [descriptor]}).to_string().into_bytes();
    let blob = |content: Vec<u8>| (format!("{BLOBS}{}", sha(&content)), content);
    vec![
        blob(layer),
        ("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.into()),
        blob(config),
        blob(manifest),
        ("index.json".into(), index),
    ]
}

fn docker() -> Vec<(String, Vec<u8>)> {
    let config = b"{}".to_vec();
    let name = format!("{}.json", sha(&config));
    let manifest = json!([{"Config": name, "RepoTags": ["app:1"], "Layers": ["l/layer.tar"]}]).to_string();
    vec![(name, config), ("./l/layer.tar".into(), b"a layer".into()), ("manifest.json".into(), manifest.into())]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn read(folder: &Path, bytes: &[u8]) -> Result<(Source, Survey, Format, Vec<Image>), Broken> {
    let path = folder.join("archive");
    std::fs::write(&path, bytes).unwrap();
    let source = Source::recognise(&path)?;
    let seen = survey(&source, &|_| {})?;
    let (format, images) = images(&seen, &machine())?;
    Ok((source, seen, format, images))
}

fn said(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    read(folder.path(), bytes).map(|_| ()).unwrap_err().to_string()
}

type Pack = fn(&[u8]) -> Vec<u8>;

#[test]
fn an_archive_is_recognised_by_its_content_and_goes_in_the_form_of_docker() {
    let folder = tempfile::tempdir().unwrap();
    let packs: [(Compression, Pack); 3] =
        [(Compression::None, <[u8]>::to_vec), (Compression::Gzip, gzip), (Compression::Zstd, zstd)];
    for (files, want) in [(docker(), Format::DockerArchive), (layout(), Format::OciLayout)] {
        for (compression, packed) in packs {
            let bytes = packed(&tar(&files));
            let (source, seen, format, found) = read(folder.path(), &bytes).unwrap();
            assert_eq!((&source, format), (&Source::Tar(folder.path().join("archive"), compression), want));
            assert_eq!((&*found[0].names, &*seen.identity), (&["app:1".to_owned()][..], &*sha(&bytes)));
            assert_eq!(seen.bytes, bytes.len() as u64);
            let mut sent = Vec::new();
            pack(&source, format, &seen, &found, &mut sent, &|_| {}).unwrap();
            let (.., format, again) = read(folder.path(), &sent).unwrap();
            assert_eq!(
                (format, &again[0].id, &again[0].layers),
                (Format::DockerArchive, &found[0].id, &found[0].layers)
            );
            assert_eq!(again[0].names, ["app:1"]);
        }
    }
}

/// What is sent of an archive, by name.
fn sent(folder: &Path, files: &[(String, Vec<u8>)]) -> BTreeMap<String, Vec<u8>> {
    let (source, seen, format, found) = read(folder, &tar(files)).unwrap();
    let mut sent = Vec::new();
    pack(&source, format, &seen, &found, &mut sent, &|_| {}).unwrap();
    let mut all = BTreeMap::new();
    crate::preload::source::tar(&mut sent.as_slice(), &mut |piece, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        all.insert(piece.name.clone(), bytes);
        Ok(())
    })
    .unwrap();
    all
}

#[test]
fn layers_go_without_zstd_which_old_engines_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let layer = vec![7; 3 << 20];
    // Two frames are one file, and what is between them is skipped.
    let (one, other) = layer.split_at(1000);
    let frames = [zstd(one), vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], zstd(other)].concat();
    for packed in [zstd(&layer), frames] {
        let files = layout_of(packed);
        // What buildx gives to docker has both documents.
        let (config, blob) = (files[2].0.clone(), files[0].0.clone());
        let manifest = json!([{"Config": config, "RepoTags": ["app:1"], "Layers": [blob]}]).to_string();
        let both = [files.clone(), vec![("manifest.json".into(), manifest.into_bytes())]].concat();
        for files in [files, both] {
            let all = sent(folder.path(), &files);
            let name = format!("{BLOBS}{}", sha(&layer));
            assert_eq!(all.get(&name), Some(&layer));
            let manifest: serde_json::Value = serde_json::from_slice(&all["manifest.json"]).unwrap();
            let want = json!([{"Config": config, "RepoTags": ["app:1"], "Layers": [name]}]);
            assert_eq!((manifest, all.len()), (want, 3));
        }
    }
    // gzip is read by all of them.
    let packed = gzip(&layer);
    let all = sent(folder.path(), &layout_of(packed.clone()));
    assert_eq!(all.get(&format!("{BLOBS}{}", sha(&packed))), Some(&packed));
    // Its digest is right, and still it is broken.
    let mut packed = zstd(&layer);
    packed.truncate(packed.len() - 3);
    let files = layout_of(packed);
    assert!(said(&tar(&files)).starts_with(&format!("{}: it cannot be unpacked: ", files[0].0)));
}

#[test]
fn a_folder_is_a_layout() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in layout() {
        std::fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let source = Source::recognise(folder.path()).unwrap();
    let told = Cell::new(0);
    let seen = survey(&source, &|bytes| told.set(told.get() + bytes)).unwrap();
    let (format, found) = images(&seen, &machine()).unwrap();
    // Its length is known before, but for the few bytes of the version.
    assert_eq!(told.get(), source.bytes().unwrap() + layout()[1].1.len() as u64);
    assert_eq!((format, &*seen.identity), (Format::OciLayout, &*sha(&layout()[4].1)));
    let mut sent = Vec::new();
    pack(&source, format, &seen, &found, &mut sent, &|_| {}).unwrap();
    assert!(read(tempfile::tempdir().unwrap().path(), &sent).is_ok());
    // A file that is another by the time it is sent is not sent.
    std::fs::write(folder.path().join(&found[0].layers[0]), "other layer").unwrap();
    let changed = pack(&source, format, &seen, &found, &mut Vec::new(), &|_| {}).unwrap_err();
    assert!(matches!(changed, Broken::Changed), "{changed}");
    // Nothing waits at a pipe.
    let pipe = folder.path().join(&found[0].layers[0]);
    std::fs::remove_file(&pipe).unwrap();
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(survey(&source, &|_| {}), Err(Broken::Foreign)));
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(said(b""), "it is empty");
    assert_eq!(said(b"just some words"), "it is no archive");
    assert_eq!(said(&[0; 1024]), "it is no archive");
    assert_eq!(said(&tar(&[("etc/passwd".into(), b"root".into())])), Broken::NoImages.to_string());
    assert_eq!(said(&tar(&[("index.json".into(), b"{}".into())])), Broken::NoImages.to_string());
    assert_eq!((said(&gzip(b"words")), said(&zstd(b"words"))), ("it is no archive".into(), "it is no archive".into()));
    assert!(said(b"\x1f\x8b\x08 and something else").starts_with("it breaks off, or is damaged: "));
    let half = tar(&layout_of(vec![1; 5000]));
    assert!(said(&half[..3000]).starts_with("it breaks off, or is damaged: blobs/sha256/"), "{}", said(&half[..3000]));
    for packed in [gzip(&tar(&layout())), zstd(&tar(&layout()))] {
        let half = said(&packed[..packed.len() / 2]);
        assert!(half.starts_with("it breaks off, or is damaged: "), "{half}");
        // The very last byte belongs to a sum over everything.
        let cut = said(&packed[..packed.len() - 1]);
        assert!(cut.starts_with("it breaks off, or is damaged: "), "{cut}");
    }
    let mut files = layout();
    files[0].1 = b"A layer".to_vec();
    assert_eq!(said(&tar(&files)), format!("{} has the digest sha256:{}", files[0].0, sha(b"A layer")));
    let mut files = layout();
    files.remove(0);
    assert!(said(&tar(&files)).ends_with(" is missing"));
    let mut files = docker();
    files[0].1 = b"{ }".to_vec();
    assert!(said(&tar(&files)).contains(".json has the digest sha256:"));
    let mut files = docker();
    files[2].1 = vec![b' '; usize::try_from(DOCUMENT).unwrap() + 1];
    assert_eq!(said(&tar(&files)), "manifest.json: it has more than 4194304 bytes");
}

#[test]
fn a_name_that_comes_twice_means_one_content() {
    let twice = |mut files: Vec<(String, Vec<u8>)>, name: &str| {
        let (_, mut content) = files.iter().find(|(known, _)| known == name).unwrap().clone();
        files.push((name.to_owned(), content.clone()));
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path(), &tar(&files)).is_ok(), "{name}");
        content.push(b' ');
        files.push((name.to_owned(), content));
        assert_eq!(said(&tar(&files)), format!("{name}: it comes twice, with another content"));
    };
    for name in ["index.json", "oci-layout"] {
        twice(layout(), name);
    }
    twice(docker(), "manifest.json");
}

/// A header alone, with a sum that fits.
fn header(kind: tar::EntryType, name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

#[test]
fn hostile_archives_are_refused() {
    let then = |mut start: Vec<u8>, rest: &[u8]| {
        start.extend(rest);
        said(&start)
    };
    let rest = tar(&docker());
    // A name that is kept in memory while it is read.
    let long = then(header(tar::EntryType::GNULongName, "././@LongLink", 1 << 40), &vec![b'a'; 3 << 20]);
    assert!(long.contains("between two files"), "{long}");
    for name in ["../x", "/etc/passwd", "a/../../b"] {
        let outside = then(header(tar::EntryType::Regular, name, 0), &rest);
        assert_eq!(outside, format!("{name:?} is no name that such an archive has"));
    }
    for kind in [tar::EntryType::Block, tar::EntryType::Fifo] {
        let device = then(header(kind, "x", 0), &rest);
        assert!(device.starts_with("x: it is no file"), "{device}");
    }
}

proptest! {
    /// Whatever is changed in an archive: it is refused, or read as it was meant.
    #[test]
    fn changed_archives_are_refused_or_read(at in 0_usize..4096, with in any::<u8>(), oci in any::<bool>()) {
        let mut bytes = tar(&if oci { layout() } else { docker() });
        let at = at % bytes.len();
        bytes[at] ^= with;
        let folder = tempfile::tempdir().unwrap();
        if let Ok((source, seen, format, found)) = read(folder.path(), &bytes) {
            pack(&source, format, &seen, &found, &mut Vec::new(), &|_| {}).unwrap();
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let folder = tempfile::tempdir().unwrap();
        prop_assert!(read(folder.path(), &bytes).is_err());
    }
}
