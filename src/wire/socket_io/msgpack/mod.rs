//! Packets of `socket.io-msgpack-parser`: one MessagePack map `{type, nsp, data, id}`, binary data in place.
//!
//! Source: <https://github.com/socketio/socket.io-msgpack-parser> and notepack.io, which it encodes with.
//! Such a packet is turned into the text form and its attachments, and back, so that everything else
//! knows one form only.

mod read;
mod write;

pub use read::{decode, decode_published};
pub use write::encode;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::socket_io::{Limits, Packet, ParseError};

    fn decoded(bytes: &[u8]) -> Result<(String, Vec<Bytes>), ParseError> {
        decode(bytes, Limits::default())
    }

    /// Bytes as the stock parser (socket.io-msgpack-parser 3.0.2) made them.
    const EVENT: &[u8] = b"\x83\xa4type\x02\xa4data\x92\xa1a\x81\xa1b\xc4\x02\x01\x02\xa3nsp\xa1/";

    #[test]
    fn what_the_stock_parser_writes_is_read() {
        let (header, attachments) = decoded(EVENT).unwrap();
        assert_eq!(header, r#"51-["a",{"b":{"_placeholder":true,"num":0}}]"#);
        assert_eq!(attachments, [&b"\x01\x02"[..]]);

        let array_buffer = b"\x83\xa4type\x02\xa4data\x92\xa1a\xc7\x02\x00\x01\x02\xa3nsp\xa1/";
        let (header, attachments) = decoded(array_buffer).unwrap();
        assert_eq!(header, r#"51-["a",{"_placeholder":true,"num":0}]"#);
        assert_eq!(attachments, [&b"\x01\x02"[..]]);

        // {type: 0, nsp: "/chat", data: undefined}
        let connect = b"\x83\xa4type\x00\xa3nsp\xa5/chat\xa4data\xd4\x00\x00";
        assert_eq!(decoded(connect).unwrap().0, "0/chat,");
        // {type: 3, id: 300, nsp: "/", data: [new Date(0), 1.5, -1, undefined, {x: undefined}]}
        let ack = b"\x84\xa4type\x03\xa2id\xcd\x01\x2c\xa3nsp\xa1/\xa4data\x95\
            \xd7\x00\x00\x00\x00\x00\x00\x00\x00\x00\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\
            \xff\xd4\x00\x00\x81\xa1x\xd4\x00\x00";
        assert_eq!(decoded(ack).unwrap().0, r#"3300["1970-01-01T00:00:00.000Z",1.5,-1,null,{}]"#);
    }

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        let attachment = [Bytes::from_static(b"\x01\x02")];
        let packets: [(&str, &[Bytes]); 8] = [
            ("0/chat,", &[]),
            (r#"0{"sid":"x"}"#, &[]),
            ("1", &[]),
            (r#"212["a",null,true,false,-1,-200,-40000,5000000000,1.5,"é",{"z":1,"a":[]}]"#, &[]),
            (r#"3/n,7[128,256,70000,-129,-3000000000]"#, &[]),
            (r#"4{"message":"no","data":{"code":7}}"#, &[]),
            (r#"51-["a",{"b":{"_placeholder":true,"num":0}}]"#, &attachment),
            (r#"2["a",{"_placeholder":true,"num":0}]"#, &[]),
        ];
        for (text, attachments) in packets {
            let written = encode(text, attachments).unwrap();
            assert_eq!(decoded(&written).unwrap(), (text.to_owned(), attachments.to_vec()));
        }
        let long = format!(r#"2["{}",[{}]]"#, "x".repeat(70_000), vec!["1"; 3000].join(","));
        assert_eq!(decoded(&encode(&long, &[]).unwrap()).unwrap().0, long);
        assert_eq!(
            encode(r#"51-["a",{"b":{"_placeholder":true,"num":0}}]"#, &attachment).unwrap()[..],
            [&b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1a\x81\xa1b\xc4\x02\x01\x02"[..]]
                .concat()
        );
    }

    #[test]
    fn a_number_is_the_same_one_in_both_forms() {
        let text = r#"2["a",1.5000000001164153,-0.0,5e-324,1.7976931348623157e+308]"#;
        let (again, _) = decoded(&encode(text, &[]).unwrap()).unwrap();
        assert_eq!(again, text);
    }

    #[test]
    fn what_is_beside_the_data_brings_no_attachment() {
        let packet = |middle: &[u8], rest: &[u8]| {
            decoded(&[b"\x84\xa4type\x02\xa3nsp\xa1/", middle, rest].concat()).unwrap()
        };
        let (data, other) = (b"\xa4data\x92\xa1a\xc4\x01\x07", b"\xa5extra\xc4\x01\x08");
        let expected = (
            r#"51-["a",{"_placeholder":true,"num":0}]"#.to_owned(),
            vec![Bytes::from_static(b"\x07")],
        );
        assert_eq!(packet(data, other), expected);
        assert_eq!(packet(other, data), expected);
        assert_eq!(packet(b"\xa4data\x92\xa1a\xc4\x01\x09", data), expected);
        let bare = b"\xa4data\x91\xa1a";
        assert_eq!(packet(other, bare), (r#"2["a"]"#.to_owned(), Vec::new()));
    }

    #[test]
    fn heads_of_every_width_stand_where_they_belong() {
        let array = |length, inner: &str| format!("[{}]", vec![inner; length].join(","));
        let map = |length: usize, inner: &str| {
            let entries: Vec<String> = (0..length).map(|n| format!(r#""k{n}":{inner}"#)).collect();
            format!("{{{}}}", entries.join(","))
        };
        let small = format!("[{},{}]", array(15, "[]"), map(15, "1"));
        let medium = format!("[{},{}]", array(16, &small), map(17, &array(20, "2")));
        let large = format!("[{},{},[3]]", map(70_000, "{}"), array(66_000, "[7]"));
        let nested = array(1, &map(16, &medium));
        let text = format!(r#"2["a",{small},{medium},{large},{nested},"end"]"#);
        assert_eq!(decoded(&encode(&text, &[]).unwrap()).unwrap().0, text);

        // What lay in a placeholder goes with it.
        let odd = format!(r#"{{"_placeholder":true,"x":{},"num":0}}"#, array(16, "1"));
        let text = format!(r#"51-["a",{},{odd},{}]"#, array(16, "1"), array(17, "[]"));
        let (text, attachments) =
            decoded(&encode(&text, &[Bytes::from_static(b"\x01\x02")]).unwrap()).unwrap();
        let placeholder = r#"{"_placeholder":true,"num":0}"#;
        let (before, behind) = (array(16, "1"), array(17, "[]"));
        assert_eq!(text, format!(r#"51-["a",{before},{placeholder},{behind}]"#));
        assert_eq!(attachments, [&b"\x01\x02"[..]]);
    }

    #[test]
    fn a_map_that_reads_as_an_attachment_is_refused_beside_one() {
        let packet = |value: &[u8], rest: &[u8]| {
            let head = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa1a\x82\xac_placeholder";
            decoded(&[&head[..], value, b"\xa3num\x00", rest].concat())
        };
        let (yes, no, binary) = (b"\xc3", b"\xc2", b"\xc4\x01\x07");
        assert!(matches!(packet(yes, binary), Err(ParseError::Placeholder)));
        assert!(packet(no, binary).is_ok());
        assert_eq!(packet(yes, b"\x07").unwrap().0, r#"2["a",{"_placeholder":true,"num":0},7]"#);
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for cut in 0..EVENT.len() {
            assert!(decoded(&EVENT[..cut]).is_err(), "{cut}");
        }
        let refused: [&[u8]; 9] = [
            b"\x93\x01\x02\x03",
            b"\x82\xa4type\x05\xa3nsp\xa1/",
            b"\x82\xa4type\x01\xa3nsp\x07",
            b"\x81\xa4type\x01",
            b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1a\x81\x01\x02",
            b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\xdd\xff\xff\xff\xff",
            b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x81\xa1a\xc4\x01\x00",
            b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1a\xd4\x05\x00",
            b"\x82\xa4type\x01\xa3nsp\xa1/\x00",
        ];
        for bytes in refused {
            assert!(decoded(bytes).is_err(), "{bytes:?}");
        }
        // Whatever a byte becomes, nothing panics.
        for (at, byte) in (0..EVENT.len()).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
            let mut bytes = EVENT.to_vec();
            bytes[at] = byte;
            if let Ok((text, attachments)) = decoded(&bytes) {
                let _ = Packet::parse(&text, attachments.len());
            }
        }
        let mut deep = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data".to_vec();
        deep.extend([0x91; 100_000]);
        assert!(matches!(decoded(&deep), Err(ParseError::TooDeep { .. })));
        let mut many = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x9c\xa1a".to_vec();
        many.extend(b"\xc4\x00".repeat(11));
        assert!(matches!(decoded(&many), Err(ParseError::TooManyAttachments { .. })));
    }

    #[test]
    fn a_value_is_written_without_a_copy_at_each_level() {
        let levels = 100;
        let inner = "x".repeat(1 << 20);
        let args = format!("{}\"{inner}\"{}", "[".repeat(levels), "]".repeat(levels));
        let packet = format!("2[\"deep\",{args}]");
        let mut written = None;
        let counted = allocation_counter::measure(|| written = Some(encode(&packet, &[])));
        assert!(written.unwrap().unwrap().len() > inner.len());
        // The text as it is read, and the packet while it grows.
        assert!(counted.bytes_total < 8 * inner.len() as u64, "{} bytes", counted.bytes_total);
    }
}
