//! The texts here were made, or refused, by the stock parser (socket.io-parser 4.2.7), unless a test says otherwise.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::*;

fn parse(text: &str) -> Result<Packet<'_>, ParseError> {
    Packet::parse_within(text, Limits::default())
}

fn error(text: &str) -> String {
    match parse(text) {
        Ok(packet) => panic!("{text:?} was read as {packet:?}"),
        Err(error) => error.to_string(),
    }
}

fn texts(args: &Args<'_>) -> Vec<String> {
    args.iter().map(|arg| arg.get().to_owned()).collect()
}

#[test]
fn packets_of_every_type_read_and_write_back_as_they_were() {
    for text in [
        "0",
        r#"0{"token":"x"}"#,
        "0/admin,",
        r#"0/admin,{"sid":"a"}"#,
        "1",
        "1/admin,",
        r#"2["message:send",{"roomId":"1"}]"#,
        r#"2/admin,456["project:delete",123]"#,
        r#"213["a"]"#,
        "3456[]",
        r#"3/admin,0["ok",null,1.5e3]"#,
        r#"4{"message":"Not authorized"}"#,
        r#"4/x,"text""#,
        r#"51-["hello",{"_placeholder":true,"num":0}]"#,
        r#"52-/admin,7["up",{"a":{"_placeholder":true,"num":1}},{"_placeholder":true,"num":0}]"#,
        r#"61-/admin,456[{"_placeholder":true,"num":0}]"#,
        r#"2["a\"é\n"]"#,
    ] {
        let packet = parse(text).unwrap();
        let mut out = Vec::new();
        packet.encode(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

#[test]
fn a_namespace_may_end_with_the_text() {
    assert_eq!(parse("0/admin").unwrap().namespace.as_str(), "/admin");
    assert_eq!(parse("0/").unwrap().namespace, Namespace::ROOT);
}

#[test]
fn an_event_gives_its_name_id_and_arguments() {
    let packet = parse(r#"2/n,12["x\u00e9", [1, {"b": 2}] ,"s"]"#).unwrap();
    assert_eq!(packet.namespace.as_str(), "/n");
    let Body::Event { id, name, args, attachments } = packet.body else { panic!() };
    assert_eq!((id, name.as_ref(), attachments), (Some(12), "xé", 0));
    assert_eq!(texts(&args), [r#"[1, {"b": 2}]"#, r#""s""#]);
}

#[test]
fn a_number_is_the_event_name_that_javascript_writes() {
    for (number, name) in [
        ("1", "1"),
        ("1.0", "1"),
        ("1.50", "1.5"),
        ("-1", "-1"),
        ("-0", "0"),
        ("9007199254740993", "9007199254740992"),
        ("100000000000000000000", "100000000000000000000"),
        ("1e21", "1e+21"),
        ("-1.5e300", "-1.5e+300"),
        ("1e-6", "0.000001"),
        ("1e-7", "1e-7"),
    ] {
        let text = format!("2[{number},true]");
        let Body::Event { name: read, args, .. } = parse(&text).unwrap().body else {
            panic!("{number} is an event")
        };
        assert_eq!((&*read, texts(&args)), (name, vec!["true".to_owned()]));
    }
}

#[test]
fn a_plain_event_name_is_borrowed() {
    let Body::Event { name, .. } = parse(r#"2["plain"]"#).unwrap().body else { panic!() };
    assert!(matches!(name, Cow::Borrowed("plain")));
}

/// The stock parser rounds a larger one, and so would answer another event than was asked.
#[test]
fn ids_go_up_to_what_javascript_counts_exactly() {
    assert!(parse(r#"29007199254740992["a"]"#).is_ok());
    assert!(error(r#"29007199254740993["a"]"#).contains("2^53"));
    assert!(error(r#"299999999999999999999999["a"]"#).contains("2^53"));
}

#[test]
fn reserved_names_are_refused_both_ways() {
    for name in
        ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]
    {
        assert!(error(&format!(r#"2["{name}"]"#)).contains("reserved"));
        let mut out = b"4".to_vec();
        let args: [u8; 0] = [];
        assert!(encode::event(&mut out, Namespace::ROOT, name, None, &args).is_err());
        assert_eq!(out, b"4");
    }
    assert!(error(r#"2["conn\u0065ct"]"#).contains("reserved"));
}

#[test]
fn what_is_no_packet_is_refused_with_its_reason() {
    assert!(error("7").contains("unknown packet type"));
    assert!(error("x").contains("unknown packet type"));
    assert!(error("é").contains("unknown packet type"));
    assert!(error("0[]").contains("not a JSON object"));
    assert!(error(r#"0"token""#).contains("not a JSON object"));
    assert!(error("1{}").contains("takes none"));
    assert!(error("1/admin,{}").contains("takes none"));
    assert!(error("4[]").contains("not a JSON object"));
    for data in
        [r#"["a""#, r#"["a"]x"#, "[]", "{}", r#""a""#, "[null]", r#"[["a"]]"#, "[\"a\u{0}\"]"]
    {
        assert!(error(&format!("2{data}")).contains("not what the packet type takes"), "{data}");
    }
    assert!(error("31{}").contains("not what the packet type takes"));
}

/// The stock parser lets these pass; no client makes them.
#[test]
fn what_only_the_stock_parser_tolerates_is_refused() {
    assert_eq!(error(""), "empty packet");
    assert!(error("2").contains("without its data"));
    assert!(error("41").contains("without its data"));
    assert!(error("3[]").contains("without an id"));
    assert!(error("2[[1]]").contains("not what the packet type takes"));
    assert!(error("01{}").contains("takes none"));
    assert!(error("11").contains("takes none"));
    assert!(error(r#"51.0-["a"]"#).contains("attachment count"));
    assert!(error(r#"5 1-["a"]"#).contains("attachment count"));
    assert!(error("2/a\u{1e}b,[\"a\"]").contains("namespace"));
    assert!(error(&format!("2/{},[\"a\"]", "n".repeat(255))).contains("namespace"));
}

#[test]
fn attachments_are_counted_and_bounded() {
    for text in [r#"5["a"]"#, r#"5-["a"]"#, r#"50-["a"]"#, r#"5x-["a"]"#, "51"] {
        assert!(error(text).contains("attachment count"), "{text}");
    }
    assert!(parse(r#"510-["a"]"#).is_ok());
    assert!(error(r#"511-["a"]"#).contains("at most 10"));
    assert!(error(r#"599999999999999999999999-["a"]"#).contains("at most 10"));
}

/// The stock parser takes any depth.
#[test]
fn nesting_is_bounded_by_what_a_reader_takes() {
    let event = |depth: usize| format!(r#"2["a",{}{}]"#, "[".repeat(depth), "]".repeat(depth));
    let deepest = event(DEPTH_MAX - 1);
    let Body::Event { args, .. } = parse(&deepest).unwrap().body else { panic!() };
    assert!(serde_json::from_str::<serde_json::Value>(args[0].get()).is_ok());
    assert!(error(&event(DEPTH_MAX)).contains("deeper than 127 levels"));
    assert!(error(&event(400_000)).contains("deeper than 127 levels"));

    let deep = event(400_000);
    let limits = Limits { depth_max: usize::MAX, ..Limits::default() };
    let Body::Event { args, .. } = Packet::parse_within(&deep, limits).unwrap().body else {
        panic!()
    };
    assert_eq!(args[0].get().len(), 800_000);
    assert!(serde_json::from_str::<serde_json::Value>(args[0].get()).is_err(), "as a value");

    let brackets = "[".repeat(300);
    assert!(parse(&format!(r#"2["a","\"{brackets}"]"#)).is_ok(), "brackets in a string");
    let wide = "[1],".repeat(300);
    assert!(parse(&format!(r#"2["a",[{wide}1]]"#)).is_ok(), "wide, not deep");
}

/// The stock parser takes any number.
#[test]
fn arguments_are_counted_and_bounded() {
    assert!(parse(&format!(r#"2["a"{}]"#, ",1".repeat(ARGS_MAX))).is_ok());
    assert!(parse(&format!(r#"2["a"{}]"#, ",1".repeat(ARGS_MAX + 1))).is_err());
}

#[test]
fn encoders_write_what_the_stock_client_reads() {
    let admin = Namespace::new("/admin").unwrap();
    let text = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = vec![crate::wire::engine_io::MESSAGE];
        write(&mut out);
        String::from_utf8(out).unwrap()
    };
    let event = text(&|out| {
        let arg = serde_json::json!({ "id": "1\n" });
        encode::event(out, Namespace::ROOT, "message:new", None, &[arg]).unwrap();
    });
    assert_eq!(event, r#"42["message:new",{"id":"1\n"}]"#);
    let event = text(&|out| drop(encode::event(out, admin, "q\"", Some(7), &[1, 2]).unwrap()));
    assert_eq!(event, r#"42/admin,7["q\"",1,2]"#);
    assert_eq!(
        text(&|out| drop(encode::ack(out, Namespace::ROOT, 7, &["a", "b"]).unwrap())),
        r#"437["a","b"]"#
    );
    assert_eq!(text(&|out| drop(encode::ack(out, admin, 7, &()).unwrap())), "43/admin,7[]");
    assert_eq!(text(&|out| encode::connect(out, Namespace::ROOT, "s", None)), r#"40{"sid":"s"}"#);
    assert_eq!(
        text(&|out| encode::connect(out, admin, "s", Some("p"))),
        r#"40/admin,{"sid":"s","pid":"p"}"#
    );
    assert_eq!(
        text(&|out| encode::connect_error(out, Namespace::ROOT, "Authentication failed", None)),
        r#"44{"message":"Authentication failed"}"#
    );
    let data: &RawValue = serde_json::from_str(r#"{"code":1}"#).unwrap();
    assert_eq!(
        text(&|out| encode::connect_error(out, admin, "no", Some(data))),
        r#"44/admin,{"message":"no","data":{"code":1}}"#
    );
    assert_eq!(text(&|out| encode::disconnect(out, Namespace::ROOT)), "41");
}

#[test]
fn an_argument_without_json_leaves_the_buffer_as_it_was() {
    let no_json = std::collections::HashMap::from([((1, 2), 3)]);
    let mut out = b"4".to_vec();
    assert!(
        encode::event(&mut out, Namespace::ROOT, "a", None, std::slice::from_ref(&no_json))
            .is_err()
    );
    assert_eq!(out, b"4");
    assert!(encode::ack(&mut out, Namespace::ROOT, 1, &[no_json]).is_err());
    assert_eq!(out, b"4");
}

fn decoder() -> Decoder {
    Decoder::new(Limits { attachments_max: 2, attachments_bytes_max: 8, ..Limits::default() })
}

#[test]
fn a_binary_event_is_complete_with_its_last_attachment() {
    let mut decoder = decoder();
    let header =
        r#"52-1["up",{"_placeholder":true,"num":0},{"a":[{"_placeholder":true,"num":1}]}]"#;
    assert!(decoder.text(header).unwrap().is_none());
    assert!(decoder.binary(Bytes::from_static(b"one")).unwrap().is_none());
    let complete = decoder.binary(Bytes::from_static(b"two")).unwrap().unwrap();
    assert_eq!(complete.attachments(), [&b"one"[..], b"two"]);
    let Body::Event { id, name, args, attachments } = complete.packet().unwrap().body else {
        panic!()
    };
    assert_eq!((id, name.as_ref(), attachments), (Some(1), "up", 2));
    assert_eq!(args.iter().map(|arg| placeholder(arg)).collect::<Vec<_>>(), [Some(0), None]);
    assert!(decoder.text(r#"2["next"]"#).unwrap().is_some());
}

#[test]
fn attachments_that_are_only_announced_take_no_memory() {
    let mut decoder = Decoder::new(Limits { attachments_max: usize::MAX, ..Limits::default() });
    let header = format!(r#"5{}-["up",{{"_placeholder":true,"num":0}}]"#, u64::MAX >> 1);
    assert!(matches!(decoder.text(&header), Ok(None)));
    assert!(matches!(decoder.binary(Bytes::from_static(b"one")), Ok(None)));
}

#[test]
fn placeholders_must_have_their_attachment() {
    for args in [
        r#"{"_placeholder":true,"num":1}"#,
        r#"{"_placeholder":true,"num":-1}"#,
        r#"{"_placeholder":true,"num":0.5}"#,
        r#"{"_placeholder":true,"num":"0"}"#,
        r#"{"_placeholder":true}"#,
        r#"[{"deep":{"num":7,"_placeholder":true}}]"#,
    ] {
        let refused = decoder().text(&format!(r#"51-["a",{args}]"#)).unwrap_err();
        assert!(matches!(refused, ParseError::Placeholder), "{args}: {refused}");
    }
    for args in [r#"{"_placeholder":false,"num":7}"#, r#"{"num":7}"#, "[null,true,1,-1,1.5,\"s\"]"]
    {
        assert!(decoder().text(&format!(r#"51-["a",{args}]"#)).unwrap().is_none(), "{args}");
    }
}

#[test]
fn text_and_binary_out_of_turn_are_refused() {
    let mut decoder = decoder();
    let stray = decoder.binary(Bytes::from_static(b"x")).unwrap_err();
    assert!(matches!(stray, ParseError::UnexpectedBinary));
    assert!(decoder.text(r#"51-["a"]"#).unwrap().is_none());
    assert!(matches!(decoder.text(r#"2["b"]"#), Err(ParseError::AttachmentDue)));
}

#[test]
fn attachments_are_bounded_in_bytes_together() {
    let mut decoder = decoder();
    assert!(decoder.text(r#"52-["a"]"#).unwrap().is_none());
    assert!(decoder.binary(Bytes::from_static(b"12345")).unwrap().is_none());
    let refused = decoder.binary(Bytes::from_static(b"6789")).unwrap_err();
    assert!(matches!(refused, ParseError::AttachmentsTooLarge { bytes: 9, bytes_max: 8 }));
}
