/*!
The records of an extended header (POSIX.1-2001, pax): what does not fit the fields of a plain one, as text.
*/
use std::collections::BTreeMap;

use super::entry::Time;

/// Values by their keywords.
pub type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// The records one after the other.
pub fn write(records: &Records) -> Vec<u8> {
    records.iter().flat_map(|(name, value)| record(name, value)).collect()
}

/// `LENGTH NAME=VALUE\n`, where the length counts its own digits.
fn record(name: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = name.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", name, b"=", value, b"\n"].concat()
}

/// Reads what [`write`] made; `None` where it is nothing of the kind. The same name twice counts once.
pub fn read(mut body: &[u8]) -> Option<Records> {
    let mut records = Records::new();
    while !body.is_empty() {
        let blank = body.iter().take(20).position(|byte| *byte == b' ')?;
        let digits = body.get(..blank).and_then(|digits| std::str::from_utf8(digits).ok());
        let length: usize = digits.and_then(|digits| digits.parse().ok())?;
        let (line, rest) = body.split_at_checked(length)?;
        let text = line.get(blank + 1..).and_then(|text| text.strip_suffix(b"\n"))?;
        let equals = text.iter().position(|byte| *byte == b'=')?;
        let (name, value) = text.split_at_checked(equals)?;
        records.insert(name.to_vec(), value.get(1..).unwrap_or_default().to_vec());
        body = rest;
    }
    Some(records)
}

/// A name must not hold what ends it, so `=` is written as GNU tar does.
pub fn escaped(name: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'=' => text.extend_from_slice(b"%3D"),
            b'%' => text.extend_from_slice(b"%25"),
            _ => text.push(*byte),
        }
    }
    text
}

/// Reads what [`escaped`] made.
pub fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte == b'%' {
            let (code, tail) = rest.split_at_checked(2)?;
            rest = tail;
            name.push(match code {
                b"3D" => b'=',
                b"25" => b'%',
                _ => return None,
            });
        } else {
            name.push(*byte);
        }
    }
    Some(name)
}

/// Decimal seconds; before 1970 the fraction counts away from zero, as every reader takes it.
pub fn time_text(time: Time) -> String {
    if time.nsec == 0 {
        return time.sec.to_string();
    }
    let (sign, sec, nsec) = if time.sec < 0 {
        ("-", (time.sec + 1).unsigned_abs(), 1_000_000_000 - time.nsec)
    } else {
        ("", time.sec.unsigned_abs(), time.nsec)
    };
    format!("{sign}{sec}.{nsec:09}")
}

/// Reads what [`time_text`] made.
pub fn time_of(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nsec = match fraction.len() {
        0 => 0,
        9 if fraction.bytes().all(|byte| byte.is_ascii_digit()) => fraction.parse().ok()?,
        _ => return None,
    };
    let sec: i64 = whole.parse().ok()?;
    if nsec != 0 && whole.starts_with('-') {
        return Some(Time { sec: sec.checked_sub(1)?, nsec: 1_000_000_000 - nsec });
    }
    Some(Time { sec, nsec })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_are_decimal_numbers() {
        assert_eq!(time_text(Time { sec: -1, nsec: 500_000_000 }), "-0.500000000");
        assert_eq!(time_of("-0.500000000"), Some(Time { sec: -1, nsec: 500_000_000 }));
        assert_eq!(time_text(Time { sec: -2, nsec: 0 }), "-2");
        assert_eq!(time_of("12.5"), None);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let one = |value: &[u8]| Some(Records::from([(b"a".to_vec(), value.to_vec())]));
        assert_eq!(read(b""), Some(Records::new()));
        assert_eq!(read(b"6 a=b\n"), one(b"b"));
        assert_eq!(read(b"9 a=b\n=\n\n"), one(b"b\n=\n"), "the length tells where it ends");
        for bad in [
            "6 a=b",
            "7 a=b\n",
            "5 a=b\n",
            "6 a-b\n",
            "x a=b\n",
            "-6 a=b\n",
            "0 ",
            " 6 a=b\n",
            "99999999999999999999999 a=b\n",
        ] {
            assert_eq!(read(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_length_counts_its_own_digits() {
        for length in [1, 90, 91, 92, 93, 94, 95, 990, 991, 992, 993, 994, 995] {
            let records = Records::from([(b"a".to_vec(), vec![b'x'; length])]);
            assert_eq!(read(&write(&records)), Some(records), "{length}");
        }
    }
}
