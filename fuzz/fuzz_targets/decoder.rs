//! The frame decoder against any bytes in any pieces: it must give the same frames as for the whole, and never hold
//! or return more than it was given.
#![no_main]

use dindctl::exec::protocol::{Decoder, Frame, HEADER, Job, ProtocolError};
use libfuzzer_sys::fuzz_target;

fn drain(decoder: &mut Decoder, frames: &mut Vec<Frame>) -> Result<(), ProtocolError> {
    while let Some(frame) = decoder.next_frame()? {
        frames.push(frame);
    }
    Ok(())
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let (mut whole, mut pieces) = (Decoder::default(), Decoder::default());
    let (mut from_whole, mut from_pieces) = (Vec::new(), Vec::new());
    whole.push(bytes);
    let verdict = drain(&mut whole, &mut from_whole);
    let mut piecewise = Ok(());
    for piece in bytes.chunks(usize::from(piece) + 1) {
        pieces.push(piece);
        piecewise = drain(&mut pieces, &mut from_pieces);
        if piecewise.is_err() {
            break;
        }
    }
    assert_eq!((&verdict, &from_whole), (&piecewise, &from_pieces));
    let size: usize = from_whole.iter().map(|frame| HEADER + frame.payload.len()).sum();
    assert!(size <= bytes.len());
    for frame in from_whole {
        let _ = serde_json::from_slice::<Job>(&frame.payload);
    }
});
