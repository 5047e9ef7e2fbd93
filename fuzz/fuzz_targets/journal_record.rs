//! Any bytes where the journal expects its own: as a whole row, as the pieces of rows whose checksum
//! was right, as records, and as the payload of a message.
#![no_main]

use leveret::journal::row::{Fragment, Record, RecordReader, Records, Row, decode_row};
use leveret::journal::row_writer::RowWriter;
use leveret::journal::{decode_value, encode_value};
use leveret::model::message::Message;
use libfuzzer_sys::fuzz_target;

/// The format version of the broker's records.
const MESSAGE_VERSION: u8 = 1;

fuzz_target!(|data: &[u8]| {
    whole_row(data);
    records(Records::of(data));
    pieces(data);
    message(data);
});

fn whole_row(bytes: &[u8]) {
    let Ok(row) = decode_row(bytes) else { return };
    if let Ok(read) = RecordReader::default().read(&row) {
        records(read);
    }
    // What was read depends on every bit of the bytes; the first are as good as any for it.
    let mut flipped = bytes.to_vec();
    flipped[0] ^= 1;
    assert!(decode_row(&flipped).is_err());
}

/// What was read is written to rows that read the same.
fn records(records: Records<'_>) {
    let read: Vec<_> = records.map_while(Result::ok).collect();
    let mut rows = Vec::new();
    let mut emit = |row: &[u8]| -> Result<(), std::convert::Infallible> {
        rows.push(row.to_vec());
        Ok(())
    };
    let mut writer = RowWriter::default();
    writer.begin(true, 7);
    for record in &read {
        let Ok(_bytes) = match *record {
            Record::Fact { position, kind, weight, tag, payload } => writer.fact(
                (position, kind, weight),
                |out| {
                    out.extend_from_slice(tag);
                    out.extend_from_slice(payload);
                    u8::try_from(tag.len()).expect("a tag that was read has a byte for its length")
                },
                &mut emit,
            ),
            Record::End { position, segment } => writer.end(position, segment, &mut emit),
        };
    }
    let Ok(()) = writer.finish(&mut emit);

    let mut again = read.iter();
    let mut reader = RecordReader::default();
    for row in &rows {
        let row = decode_row(row).expect("a written row is one");
        assert!(row.rewritten && row.last_position == 7);
        for record in reader.read(&row).expect("written pieces fit") {
            assert_eq!(Some(&record.expect("a written record is one")), again.next());
        }
    }
    assert!(!reader.is_within_record());
    assert_eq!(again.next(), None);
}

/// Rows one after another: a byte that says which piece, one for its length, then the piece.
fn pieces(mut bytes: &[u8]) {
    let mut reader = RecordReader::default();
    while let [fragment, length, rest @ ..] = bytes {
        let (body, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let fragment = match fragment % 4 {
            0 => Fragment::Whole,
            1 => Fragment::First,
            2 => Fragment::Middle,
            _ => Fragment::Last,
        };
        let row = Row { fragment, rewritten: false, last_position: 0, body };
        match reader.read(&row) {
            Ok(read) => records(read),
            Err(_) => return,
        }
        bytes = rest;
    }
}

fn message(bytes: &[u8]) {
    let Ok(message) = decode_value::<Message>(MESSAGE_VERSION, bytes) else { return };
    let mut written = Vec::new();
    encode_value(MESSAGE_VERSION, &message, &mut written);
    let again: Message = decode_value(MESSAGE_VERSION, &written).expect("a written message is one");
    // By its text: a header may hold a NaN.
    assert_eq!(format!("{message:?}"), format!("{again:?}"));
}
