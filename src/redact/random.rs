/*!
What no person types and no program needs as a name: long runs of mixed letters and digits, which keys, tokens and encoded
credentials are. Digests and identifiers are hexadecimal or in small letters alone, and stay.
*/
use std::ops::Range;

/// Shortest run that is looked at.
const SHORTEST: usize = 28;

fn of_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'_' | b'-')
}

/// The places of such runs.
pub fn runs(line: &str, found: &mut Vec<Range<usize>>) {
    let bytes = line.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let length = bytes.get(start..).unwrap_or_default().iter().take_while(|byte| of_base64(**byte)).count();
        let run = start..start + length;
        if let Some(text) = line.get(run.clone()) {
            // The slash is a letter of base64, and what parts a path.
            if !text.starts_with('/') && looks_random(text) {
                found.push(run);
            } else {
                let mut from = start;
                for segment in text.split('/') {
                    if looks_random(segment) {
                        found.push(from..from + segment.len());
                    }
                    from += segment.len() + 1;
                }
            }
        }
        start += length + 1;
    }
}

/// Small letters, capitals and digits all through each other.
fn looks_random(text: &str) -> bool {
    if text.len() < SHORTEST {
        return false;
    }
    let kind = |byte: &u8| match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let mut counts = [0_usize; 4];
    let mut changes = 0;
    let mut before = None;
    for byte in text.as_bytes() {
        let kind = kind(byte);
        if let Some(count) = counts.get_mut(kind) {
            *count += 1;
        }
        changes += usize::from(before.is_some_and(|before| before != kind));
        before = Some(kind);
    }
    let [small, capital, digits, signs] = counts;
    // Of random base64 three of five letters are of another kind than the one before; of names in CamelCase one of four at most. A path
    // has its slashes, which are signs, and few capitals.
    small >= 3 && capital >= 3 && digits >= 2 && changes * 3 >= text.len() && signs * 6 <= text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<&str> {
        let mut found = Vec::new();
        runs(line, &mut found);
        found.into_iter().filter_map(|range| line.get(range)).collect()
    }

    #[test]
    fn keys_and_tokens_are_found() {
        let key = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
        assert_eq!(of(&format!("got {key} from it")), [key]);
        let slashes = "k8/Yx3Qz9+Lm2Rt7/Pv4Wn6Bs1Dc5Fg0Hj8Kq3Z";
        assert_eq!(of(&format!("x={slashes};")), [slashes]);
        let behind_a_path = "/etc/keys/a8Fk2Lq9Zx7Cv3Bn5Mm1Ww4Ee6Rr8Tt0Yy";
        assert_eq!(of(behind_a_path), ["a8Fk2Lq9Zx7Cv3Bn5Mm1Ww4Ee6Rr8Tt0Yy"]);
    }

    #[test]
    fn identifiers_paths_and_names_stay() {
        for line in [
            "91bcd4b27a33f0e1d2c3b4a5968778695a4b3c2d1e0f91bcd4b27a33f0e1d2c3",
            "sha256:91bcd4b27a33f0e1d2c3b4a5968778695a4b3c2d1e0f91bcd4b27a33f0e1d2c3",
            "/var/lib/docker/overlay2/yx3qz9lm2rt7pv4wn6bs1dc5f/merged",
            "/var/lib/docker/overlay2/l/ABCDEFGHIJKLMNOPQRSTUVWXYZ:/var/lib/docker",
            "TheContainerRuntimeNetworkSettingsAndFilters2",
            "2026-11-27T06:43:53.123456789Z",
            "6f1a2b3c-4d5e-6f70-8192-a3b4c5d6e7f8",
            "github.com/docker/docker/daemon/graphdriver/overlay2",
            "CONFIG_NETFILTER_XT_MATCH_ADDRTYPE",
        ] {
            assert_eq!(of(line), <Vec<&str>>::new(), "{line}");
        }
    }
}
