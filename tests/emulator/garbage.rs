//! Malformed input of any kind gets the error envelope of ACS, never a 5xx, a hang or a panic.

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::{
    caller::{Call, Service, address, exchange, read},
    support::emulator::Emulator,
};

/// Asserts that the emulator has not panicked and still works.
async fn is_well(emulator: &Emulator) {
    assert_eq!(Service::new(emulator).create("").await.status, 201);
    let output = emulator.process.output();
    assert!(!output.contains("panicked"), "{output}");
}

/// Pseudorandom numbers, the same in each run.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed;
    std::iter::from_fn(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        Some((state >> 56) as u8)
    })
}

#[tokio::test]
async fn bytes_that_are_no_http_get_a_400_in_the_envelope() {
    let emulator = Emulator::start(&[]);
    let address = address(&emulator);
    let mut all: Vec<Vec<u8>> = [
        "\r\n\r\n\r\nGARBAGE\r\n\r\n",
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1 HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n: empty\r\n\r\n",
        "GET / HTTP/1.1\r\nbad name: x\r\n\r\n",
        "GET / HTTP/1.1\r\na: \u{1}\r\n\r\n",
        "GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        "GET / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        "GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "GET / HTTP/1.1\r\ntransfer-encoding: zip\r\n\r\n",
        "GET <> HTTP/1.1\r\n\r\n",
        "GET é HTTP/1.1\r\n\r\n",
        "POST http:// HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}",
        "EHLO example.com\r\n\r\n",
    ]
    .iter()
    .map(|it| it.as_bytes().to_vec())
    .collect();
    all.extend((1..=60).map(|seed| {
        noise(seed)
            .take(1 + 37 * usize::try_from(seed).unwrap())
            .collect()
    }));
    for bytes in all {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let shown = String::from_utf8_lossy(&bytes);
        let reply = read(&mut stream)
            .await
            .unwrap_or_else(|| panic!("no answer to {shown}"));
        assert_eq!(reply.status, 400, "{shown:?}: {reply:?}");
        reply.code();
    }
    is_well(&emulator).await;
}

#[tokio::test]
async fn what_is_too_long_is_told_as_such() {
    let emulator = Emulator::start(&[]);
    let address = address(&emulator);
    let long = "a".repeat(70_000);
    for (head, status, code) in [
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 414, "UriTooLong"),
        (
            format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "a".repeat(83_000)),
            431,
            "RequestHeaderFieldsTooLarge",
        ),
        (
            format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200)),
            431,
            "RequestHeaderFieldsTooLarge",
        ),
    ] {
        let reply = exchange(&address, head.as_bytes()).await.unwrap();
        assert_eq!((reply.status, reply.code()), (status, code.to_owned()));
    }
    for length in [256 * 1024 + 1, 40 * 1024 * 1024] {
        let body = "[".repeat(length);
        let mut call = Service::new(&emulator).call("POST", "/identities", &body);
        call.sign();
        let mut stream = TcpStream::connect(&address).await.unwrap();
        // Many clients do not read the answer unless they could send the whole request.
        stream.write_all(&call.bytes()).await.unwrap();
        let reply = read(&mut stream).await.unwrap();
        assert_eq!(
            (reply.status, reply.code()),
            (413, "RequestBodyTooLarge".to_owned())
        );
    }
    // A body of an excessive length is refused as soon as its headers are read.
    let head = "POST /identities HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999999\r\n\r\n";
    let reply = exchange(&address, head.as_bytes()).await.unwrap();
    assert_eq!(reply.code(), "RequestBodyTooLarge");
    is_well(&emulator).await;
}

#[tokio::test]
async fn bodies_that_are_no_json_objects_are_refused() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    let path = format!("/identities/{id}/:issueAccessToken");
    let mut bodies: Vec<Vec<u8>> = [
        "{",
        "}",
        "[",
        "[]",
        "null",
        "1",
        "\"a\"",
        "{}{}",
        "{,}",
        "{\"scopes\":}",
        "\u{feff}{}",
        "{'scopes':[]}",
        "{\"scopes\":[\"\\ud800\"]}",
        "{\"scopes\":[1e999]}",
        " ",
        "scopes=chat",
        "<scopes/>",
        "{\"a\":\"\n\"}",
    ]
    .iter()
    .map(|it| it.as_bytes().to_vec())
    .collect();
    bodies.push(vec![b'[', 0xff, b']']);
    bodies.push(b"{\"a\":\"\xff\"}".to_vec());
    bodies.push(b"\0\0\0\0".to_vec());
    bodies.push("{\"a\":".repeat(40_000).into_bytes());
    bodies.push(format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500)).into_bytes());
    bodies.extend((1..=30).map(|seed| noise(seed).take(200).collect::<Vec<_>>()));
    for body in bodies {
        for target in [
            "/identities",
            path.as_str(),
            "/teamsUser/:exchangeAccessToken",
        ] {
            let target = format!("{target}?api-version=2023-10-01");
            let reply = Call::new(&emulator, "POST", &target, body.clone())
                .send()
                .await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            assert_eq!(
                (reply.status, reply.code()),
                (400, "ValidationError".to_owned()),
                "{shown}"
            );
        }
        for (method, path) in [
            ("PUT", "faults"),
            ("PUT", "settings"),
            ("PATCH", "settings"),
            ("PUT", "clock"),
            ("POST", "check"),
        ] {
            let target = format!("/_emulator/{path}");
            let reply = Call::new(&emulator, method, &target, body.clone())
                .send_as_it_is()
                .await;
            // An empty list of faults is valid.
            if !(path == "faults" && body == b"[]") {
                assert_eq!(reply.status, 400, "{path}");
                reply.code();
            }
        }
    }
    is_well(&emulator).await;
}

#[tokio::test]
async fn wrong_types_in_a_body_are_refused() {
    let emulator = Emulator::start(&[]);
    let service = Service::new(&emulator);
    let id = service.identity().await;
    for wrong in [
        "\"chat\"",
        "1",
        "{}",
        "true",
        "[1]",
        "[null]",
        "[[\"chat\"]]",
        "[\"\"]",
        "[\"chat\",null]",
        "[\"chat voip\"]",
    ] {
        let reply = service.issue(&id, &format!("{{\"scopes\":{wrong}}}")).await;
        assert_eq!(
            (reply.status, reply.code()),
            (400, "ValidationError".to_owned()),
            "{wrong}"
        );
        let reply = service
            .create(&format!("{{\"createTokenWithScopes\":{wrong}}}"))
            .await;
        assert_eq!(
            (reply.status, reply.code()),
            (400, "ValidationError".to_owned()),
            "{wrong}"
        );
        if wrong != "\"chat\"" {
            for field in ["token", "appId", "userId"] {
                let mut body = crate::exchange::body();
                body[field] = serde_json::from_str(wrong).unwrap();
                let reply = crate::exchange::teams(&emulator, "2023-10-01", &body).await;
                assert_eq!(
                    (reply.status, reply.code()),
                    (400, "ValidationError".to_owned()),
                    "{field} {wrong}"
                );
            }
        }
    }
    let many = format!("{{\"scopes\":[{}\"fly\"]}}", "\"chat\",".repeat(30_000));
    assert_eq!(service.issue(&id, &many).await.code(), "ValidationError");
    is_well(&emulator).await;
}

#[tokio::test]
async fn content_types_other_than_json_are_refused() {
    let emulator = Emulator::start(&[]);
    for (content_type, status) in [
        (Some("application/json"), 201),
        (Some("APPLICATION/JSON; Charset=\"UTF-8\""), 201),
        (Some("application/json; charset=utf-16"), 415),
        (Some("text/plain"), 415),
        (Some("application/x-www-form-urlencoded"), 415),
        (Some(""), 415),
        (Some(";;;==="), 415),
        (None, 415),
    ] {
        let mut call = Service::new(&emulator).call("POST", "/identities", "{}");
        call.content_type = content_type;
        let reply = call.send().await;
        assert_eq!(reply.status, status, "{content_type:?} {reply:?}");
        // Without a body, the content type is not checked.
        let mut call = Service::new(&emulator).call("POST", "/identities", "");
        call.content_type = content_type;
        assert_eq!(call.send().await.status, 201);
    }
}

#[tokio::test]
async fn odd_targets_are_refused() {
    let emulator = Emulator::start(&[]);
    for target in [
        "/identities/%",
        "/identities/%2",
        "/identities/%zz",
        "/identities/%ff",
        "/identities/a%00%c3",
        "/%",
        "*",
        "//",
        "///",
        "/identities//:issueAccessToken",
        "/identities/../identities",
        "/identities?api-version=%ff&api-version=%zz",
        "/identities?&&&==&",
        "/identities/a?api-version=2023-10-01?",
        "/_emulator/..",
        "/_emulator/%zz",
        "/_emulator/keys/tertiary/regenerate",
        "http://elsewhere.example/identities",
        "/identities/%E2%80%AE",
    ] {
        for method in ["GET", "POST", "DELETE", "PUT"] {
            let reply = Call::new(&emulator, method, target, "").send().await;
            assert!(
                (400..500).contains(&reply.status),
                "{method} {target} {reply:?}"
            );
            let code = reply.code();
            if target.starts_with("/identities/%") && !target.contains("%E2") {
                assert_eq!((reply.status, code.as_str()), (400, "ValidationError"));
            }
        }
    }
    is_well(&emulator).await;
}

#[tokio::test]
async fn half_a_request_is_answered_when_its_sender_ends_or_is_too_slow() {
    let emulator = Emulator::start(&["--read-timeout", "300ms"]);
    let whole = "POST /identities HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{}";
    let chunked =
        "POST /identities HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc";
    for half in [
        &whole[..3],
        &whole[..30],
        &whole[..whole.len() - 4],
        whole,
        chunked,
    ] {
        for ends in [true, false] {
            let mut stream = TcpStream::connect(address(&emulator)).await.unwrap();
            stream.write_all(half.as_bytes()).await.unwrap();
            if ends {
                stream.shutdown().await.unwrap();
            }
            let reply = read(&mut stream)
                .await
                .unwrap_or_else(|| panic!("no answer to {half:?}"));
            let expected = if ends { 400 } else { 408 };
            assert_eq!(reply.status, expected, "{half:?} {reply:?}");
            reply.code();
        }
    }
    for broken in [
        "zz\r\nabc\r\n",
        "-1\r\n",
        "5;\u{1}\r\nabcde\r\n0\r\n",
        "ffffffffffffffffff\r\n",
    ] {
        let head = "POST /identities HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let reply = exchange(&address(&emulator), format!("{head}{broken}").as_bytes())
            .await
            .unwrap();
        assert!((400..=408).contains(&reply.status), "{broken:?} {reply:?}");
        reply.code();
    }
    is_well(&emulator).await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let emulator = Emulator::start(&["--read-timeout", "200ms"]);
    let mut stream = TcpStream::connect(address(&emulator)).await.unwrap();
    assert!(read(&mut stream).await.is_none());
}

#[tokio::test]
async fn connections_are_bounded_and_those_that_say_nothing_do_not_keep_others_out_for_long() {
    let emulator = Emulator::start(&["--read-timeout", "3s"]);
    let mut silent = Vec::new();
    for _ in 0..900 {
        silent.push(TcpStream::connect(address(&emulator)).await.unwrap());
    }
    is_well(&emulator).await;
    // The check had to wait until the emulator closed a silent connection.
    let first = silent.swap_remove(0).into_std().unwrap();
    let end = std::io::Read::read(&mut &first, &mut [0]);
    assert_eq!(end.unwrap(), 0);
}

#[tokio::test]
async fn requests_one_after_another_on_a_connection_are_answered_in_order_and_garbage_ends_it() {
    let emulator = Emulator::start(&[]);
    let mut call = Service::new(&emulator).call("POST", "/identities", "");
    call.sign();
    let once = String::from_utf8(call.bytes())
        .unwrap()
        .replace("connection: close\r\n", "");
    let mut stream = TcpStream::connect(address(&emulator)).await.unwrap();
    stream
        .write_all(format!("{once}{once}GARBAGE\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut all = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut all)
        .await
        .unwrap();
    let all = String::from_utf8(all).unwrap();
    let statuses: Vec<_> = all
        .match_indices("HTTP/1.1 ")
        .filter(|(at, _)| all[at + 9..].starts_with(|c: char| c.is_ascii_digit()))
        .map(|(at, _)| &all[at + 9..at + 12])
        .collect();
    assert_eq!(statuses, ["201", "201", "400"]);
    assert!(
        all.ends_with(
            r#"{"error":{"code":"BadRequest","message":"This is not an HTTP/1.1 request."}}"#
        ),
        "{all}"
    );
}
