//! The pages that are no RPC, of real etcd and of Coracle, side by side (ETCD.md 1.6, GW-09).

use anyhow::Result;
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::http::HttpClient;
use coracle_tests::side_by_side::{FLAGS, clients, comparable, start_both};
use http::Method;

#[tokio::test]
async fn gw_09_hosts_and_origins() -> Result<()> {
    let clusters =
        start_both(&["--host-whitelist=localhost,127.0.0.1", "--cors=http://a.example:80"])?;
    let [mut etcd, mut coracle] = clients(&clusters);
    let names = [
        "access-control-allow-methods",
        "access-control-allow-origin",
        "access-control-allow-headers",
    ];
    for (method, path, headers) in [
        (Method::GET, "/health", vec![("host", "localhost:1234")]),
        (Method::GET, "/health", vec![("host", "localhost")]),
        (Method::GET, "/health", vec![("host", "evil.example:80")]),
        (Method::POST, "/v3/kv/range", vec![("host", "evil.example")]),
        (
            Method::OPTIONS,
            "/v3/kv/range",
            vec![("host", "localhost"), ("origin", "http://a.example:80")],
        ),
        (
            Method::OPTIONS,
            "/v3/kv/range",
            vec![("host", "localhost"), ("origin", "http://b.example:80")],
        ),
        (Method::OPTIONS, "/nothing", vec![("host", "localhost")]),
        (
            Method::POST,
            "/v3/kv/put",
            vec![("host", "localhost"), ("origin", "http://a.example:80")],
        ),
    ] {
        let expected = etcd.ask(method.clone(), path, &headers, "").await?;
        let actual = coracle.ask(method.clone(), path, &headers, "").await?;
        let what = format!("{method} {path} {headers:?}");
        assert_eq!(expected.status, actual.status, "{what}");
        assert_eq!(comparable(&expected.json()), comparable(&actual.json()), "{what}");
        for name in names {
            assert_eq!(expected.header(name), actual.header(name), "{name} of {what}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn h_01_h_04_pages_and_methods_are_etcds() -> Result<()> {
    let clusters = start_both(&[])?;
    let [mut etcd, mut coracle] = clients(&clusters);
    let alarm = |action: &str, alarm: &str| {
        format!("{{\"action\":\"{action}\",\"memberID\":\"5\",\"alarm\":\"{alarm}\"}}")
    };
    let healths = [
        "/health",
        "/health?serializable=true",
        "/health?exclude=NOSPACE",
        "/health?exclude=CORRUPT",
    ];
    for raised in ["", "NOSPACE", "CORRUPT"] {
        for client in [&mut etcd, &mut coracle] {
            if !raised.is_empty() {
                client.post("/v3/maintenance/alarm", &alarm("ACTIVATE", raised)).await?;
            }
        }
        for path in healths {
            let (expected, actual) = (etcd.get(path).await?, coracle.get(path).await?);
            assert_eq!(expected.status, actual.status, "{path} {raised}");
            assert_eq!(expected.text(), actual.text(), "{path} {raised}");
        }
        for client in [&mut etcd, &mut coracle] {
            if !raised.is_empty() {
                client.post("/v3/maintenance/alarm", &alarm("DEACTIVATE", raised)).await?;
            }
        }
    }
    for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
        for path in ["/health", "/version", "/metrics", "/debug/vars", "/", "/nothing", "/health/"]
        {
            let expected = etcd.ask(method.clone(), path, &[], "").await?;
            let actual = coracle.ask(method.clone(), path, &[], "").await?;
            let what = format!("{method} {path}");
            assert_eq!(expected.status, actual.status, "{what}");
            for name in ["allow", "content-type", "x-content-type-options"] {
                assert_eq!(expected.header(name), actual.header(name), "{name} of {what}");
            }
            if expected.status.is_client_error() {
                assert_eq!(expected.text(), actual.text(), "{what}");
            }
        }
    }
    let (expected, actual) = (etcd.get("/debug/vars").await?, coracle.get("/debug/vars").await?);
    for name in ["cmdline", "file_descriptor_limit", "memstats", "raft.status"] {
        assert!(expected.json().get(name).is_some() && actual.json().get(name).is_some(), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn h_02_probes() -> Result<()> {
    let cluster = Cluster::start_with(Kind::Coracle, 1, &FLAGS)?;
    let mut client = HttpClient::new(&cluster.client_address(0));
    for (path, expected) in [
        ("/livez", "ok\n"),
        ("/livez?verbose", "[+]serializable_read ok\nok\n"),
        ("/readyz/linearizable_read?verbose", "[+]linearizable_read ok\nok\n"),
        (
            "/readyz?verbose&exclude=linearizable_read&exclude=nothing",
            "[+]data_corruption ok\n[+]serializable_read ok\n[+]non_learner ok\nok\n",
        ),
    ] {
        let reply = client.get(path).await?;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (200, expected), "{path}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
    }
    assert_eq!(client.get("/readyz/nothing").await?.status.as_u16(), 404);
    assert_eq!(client.post("/readyz", "").await?.status.as_u16(), 405);
    for (alarm, status) in [("NOSPACE", 200), ("CORRUPT", 503)] {
        let request =
            format!("{{\"action\":\"ACTIVATE\",\"memberID\":\"5\",\"alarm\":\"{alarm}\"}}");
        client.post("/v3/maintenance/alarm", &request).await?;
        let reply = client.get("/readyz").await?;
        assert_eq!(reply.status.as_u16(), status, "{alarm}");
        assert_eq!(client.get("/livez").await?.status.as_u16(), 200, "{alarm}");
    }
    let reply = client.get("/readyz").await?;
    assert!(reply.text().starts_with("[-]data_corruption failed: alarm activated: CORRUPT\n"));
    Ok(())
}

#[tokio::test]
async fn gw_10_a_document_tells_the_paths_of_the_gateway() -> Result<()> {
    let served = Cluster::start(Kind::Coracle, 1)?;
    let mut client = HttpClient::new(&served.client_address(0));
    let page = client.get("/openapi.json").await?;
    assert_eq!(page.header("content-type"), "application/json");
    let document = page.json();
    assert_eq!(document["openapi"], "3.0.3");
    let range = &document["paths"]["/v3/kv/range"]["post"];
    let schema = &range["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(schema, "#/components/schemas/etcdserverpb.RangeRequest");
    assert_eq!(client.post("/openapi.json", "").await?.status, 405);
    let without = Cluster::start_with(Kind::Coracle, 1, &["--enable-grpc-gateway=false"])?;
    let mut client = HttpClient::new(&without.client_address(0));
    assert_eq!(client.get("/openapi.json").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn h_04_profiles_are_served_where_they_were_asked_for() -> Result<()> {
    let clusters = start_both(&["--enable-pprof"])?;
    let [mut etcd, mut coracle] = clients(&clusters);
    for path in ["/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/nothing"] {
        assert_eq!(etcd.get(path).await?.status, coracle.get(path).await?.status, "{path}");
    }
    assert!(coracle.get("/debug/pprof/cmdline").await?.text().contains("\0--enable-pprof"));
    let (expected, profile) = (
        etcd.get("/debug/pprof/profile?seconds=1").await?,
        coracle.get("/debug/pprof/profile?seconds=1").await?,
    );
    for name in ["content-type", "content-disposition"] {
        assert_eq!(expected.header(name), profile.header(name), "{name}");
    }
    assert!(profile.text().contains("nanoseconds"), "a table of strings");
    let plain = Cluster::start(Kind::Coracle, 1)?;
    let mut plain = HttpClient::new(&plain.client_address(0));
    assert_eq!(plain.get("/debug/pprof/").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn h_03_peers_are_told_the_version_too() -> Result<()> {
    for kind in [Kind::Etcd, Kind::Coracle] {
        let cluster = Cluster::start(kind, 1)?;
        let mut peer = HttpClient::new(&cluster.peer_address(0));
        let version = peer.get("/version").await?;
        assert_eq!(version.header("content-type"), "application/json", "{kind:?}");
        for key in ["etcdserver", "etcdcluster"] {
            assert!(version.json()[key].as_str().is_some_and(|text| text.starts_with("3.")));
        }
        let mut peer = HttpClient::new(&cluster.peer_address(0));
        assert_eq!(peer.get("/nothing").await?.status, 404, "{kind:?}");
    }
    Ok(())
}
