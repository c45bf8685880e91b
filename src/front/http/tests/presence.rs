//! Presence over HTTP: what is asked, and how it is answered.

use serde_json::json;

use super::{FakeNode, limited, serve};

#[tokio::test]
async fn paths_queries_and_bodies_reach_the_node_as_they_are_meant() {
    let server = serve(FakeNode::default()).await;
    let ask = [
        ("GET", "/v1/topics/room:1/presence", "list default room:1 None 0"),
        ("GET", "/v1/topics/a/b/presence?key=x%20y&limit=5", "list default a/b Some(\"x y\") 5"),
        ("GET", "/v1/topics/a/presence?limit=99999&page=YWxpY2UAMQ", "list default a None 99999"),
        ("GET", "/v1/topics/a%2Fb/presence/count", "count default a/b"),
        ("PUT", "/v1/topics/a/presence/k%2F1/tab", "put default a k/1 tab b\"{}\" 30s"),
        (
            "PUT",
            "/v1/topics/x/presence/presence/k/i?ttl=90s",
            "put default x/presence k i b\"{}\" 90s",
        ),
        ("DELETE", "/v1/topics/a/presence/k/i", "delete default a k i"),
    ];
    for (method, path, expected) in ask {
        let body: &[u8] = if method == "PUT" { b"{}" } else { b"" };
        let answer = server.ask(method, path, "", body).await;
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
        assert_eq!(server.node.presence.lock().pop().as_deref(), Some(expected));
    }
    let answer =
        server.ask("GET", "/v1/topics/a/presence", "waxwing-namespace: shop\r\n", b"").await;
    assert_eq!(
        answer.json(),
        json!({
            "topic": "a", "keys": [], "count": { "keys": 2, "presences": 3 },
            "version": "1-2-3", "next_page": "YWxpY2UAMQ",
        })
    );
    assert_eq!(server.node.presence.lock().pop().as_deref(), Some("list shop a None 0"));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_does_nothing() {
    let server = serve(limited(|limits| limits.metadata = 10)).await;
    let check = [
        ("GET", "/v1/topics/a/presence?limit=0", "", 400, "bad_query"),
        ("GET", "/v1/topics/a/presence?limt=1", "", 400, "bad_query"),
        ("GET", "/v1/topics/a/presence?page=%00", "", 400, "bad_page"),
        ("GET", "/v1/topics/a/presence?page=YWxpY2U", "", 400, "bad_page"),
        ("GET", "/v1/topics/%zz/presence", "", 400, "bad_topic_encoding"),
        ("GET", "/v1/topics/a/presences", "", 404, "not_found"),
        ("PUT", "/v1/topics/a/presence/k", "", 404, "not_found"),
        ("POST", "/v1/topics/a/presence", "", 405, "method_not_allowed"),
        ("GET", "/v1/topics/a/presence/k/i", "", 405, "method_not_allowed"),
        ("PUT", "/v1/topics/a/presence/k/i?ttl=5", "", 400, "bad_ttl"),
        ("PUT", "/v1/topics/a/presence/k/i?ttl=1ms", "", 400, "bad_ttl"),
        ("PUT", "/v1/topics/a/presence/k/i?ttl=2h", "", 400, "bad_ttl"),
        ("PUT", "/v1/topics/a/presence/k/i?for=2h", "", 400, "bad_ttl"),
        ("PUT", "/v1/topics/a/presence/k/i", "12345678901", 413, "metadata_too_large"),
        ("PUT", "/v1/topics/a/presence/%ff/i", "", 400, "bad_topic_encoding"),
        ("DELETE", "/v1/topics/a/k/i", "", 404, "not_found"),
        ("PATCH", "/v1/topics/a/presence/k/i", "", 405, "method_not_allowed"),
    ];
    for (method, path, body, status, code) in check {
        let answer = server.ask(method, path, "", body.as_bytes()).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert_eq!(answer.json()["error"]["code"], code, "{method} {path}");
    }
    for method in ["PUT", "DELETE"] {
        let headers = "origin: http://evil.example\r\n";
        let answer = server.ask(method, "/v1/topics/a/presence/k/i", headers, b"").await;
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (403, Some("cross_origin"))
        );
    }
    assert!(server.node.presence.lock().is_empty());
}
