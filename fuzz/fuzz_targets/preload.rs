//! Archives of images from anywhere, plain and as each kind of compression unpacks them: nothing panics, and what is taken can be sent.
#![no_main]

use dindctl::preload::layout::Platform;
use dindctl::preload::pack::pack;
use dindctl::preload::source::Source;
use dindctl::preload::survey::{hex, images, survey};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};

fn judge(path: &std::path::Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("disk");
    let Ok(source) = Source::recognise(path) else { return };
    let Ok(seen) = survey(&source, &|_| {}) else { return };
    let machine = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
    if let Ok((format, found)) = images(&seen, &machine) {
        pack(&source, format, &seen, &found, &mut Vec::new(), &|_| {}).expect("what was taken can be sent");
    }
}

/// Names and contents are cut out of the input, so that the fuzzer need not find sums of headers. Blobs are named for their content, a
/// byte below 8 in a document stands for the descriptor of an earlier blob, and one from 8 to 15 for the name of its file.
fn tar(mut bytes: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut blobs: Vec<(String, usize)> = Vec::new();
    while let [name, size, rest @ ..] = bytes {
        let names = ["manifest.json", "index.json", "a.json", "a/layer.tar", "blob", "zstd", "oci-layout"];
        let (text, rest) = rest.split_at(rest.len().min(usize::from(*size) * 2));
        let mut content = Vec::new();
        for byte in text {
            match (byte, blobs.get(usize::from(byte % 8))) {
                (0..8, Some((hex, size))) => {
                    let kind = "application/vnd.oci.image.config.v1+json";
                    let descriptor = format!(r#"{{"digest":"sha256:{hex}","size":{size},"mediaType":"{kind}"}}"#);
                    content.extend(descriptor.into_bytes());
                }
                (8..16, Some((hex, _))) => content.extend(format!("blobs/sha256/{hex}").into_bytes()),
                _ => content.push(*byte),
            }
        }
        let mut name = names[usize::from(*name) % names.len()].to_owned();
        if name == "zstd" {
            content = zstd::encode_all(content.as_slice(), 1).expect("memory");
        }
        if name == "zstd" || name == "blob" {
            let hex = hex(&Sha256::digest(&content));
            name = format!("blobs/sha256/{hex}");
            blobs.push((hex, content.len()));
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content.as_slice()).expect("memory");
        bytes = rest;
    }
    archive.into_inner().expect("memory")
}

fuzz_target!(|bytes: &[u8]| {
    let path = std::path::PathBuf::from(format!("/dev/shm/dindctl-fuzz-preload-{}", std::process::id()));
    judge(&path, bytes);
    judge(&path, &tar(bytes));
    judge(&path, &zstd::encode_all(bytes, 1).expect("memory"));
    let _ = std::fs::remove_file(&path);
});
