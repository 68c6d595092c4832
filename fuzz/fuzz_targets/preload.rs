//! Archives of images from anywhere, plain and as each kind of compression unpacks them: nothing panics, and what is taken can be sent.
#![no_main]

use dindctl::preload::layout::Platform;
use dindctl::preload::pack::pack;
use dindctl::preload::source::Source;
use dindctl::preload::survey::{images, survey};
use libfuzzer_sys::fuzz_target;

fn judge(path: &std::path::Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("disk");
    let Ok(source) = Source::recognise(path) else { return };
    let Ok(seen) = survey(&source, &|_| {}) else { return };
    let machine = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
    if let Ok((format, found)) = images(&seen, &machine) {
        pack(&source, format, &seen, &found, &mut Vec::new(), &|_| {}).expect("what was taken can be sent");
    }
}

/// Names and contents are cut out of the input, so that the fuzzer need not find sums of headers.
fn tar(mut bytes: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    while let [name, size, rest @ ..] = bytes {
        let names = ["manifest.json", "index.json", "a.json", "a/layer.tar", "blobs/sha256/00", "oci-layout"];
        let (content, rest) = rest.split_at(rest.len().min(usize::from(*size) * 2));
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        let name = names[usize::from(*name) % names.len()];
        archive.append_data(&mut header, name, content).expect("memory");
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
