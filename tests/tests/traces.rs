//! Traces of calls, as an OpenTelemetry collector gets them from etcd and from Coracle.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use coracle_core::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use coracle_core::api::etcdserverpb::request_op::Request as OpRequest;
use coracle_core::api::etcdserverpb::watch_request::RequestUnion;
use coracle_core::api::etcdserverpb::*;
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::raw::{RawClient, metadata};
use coracle_tests::running::free_port;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Spans leave some seconds after their calls.
const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT_ID: &str = "00f067aa0ba902b7";

/// A span, and what is said of the process that it comes from.
type Told = (Vec<KeyValue>, Span);

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Told>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().expect("lock");
        for group in request.into_inner().resource_spans {
            let resource = group.resource.map(|resource| resource.attributes).unwrap_or_default();
            let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.extend(spans.map(|span| (resource.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Serves until the runtime ends; returns host and port.
    async fn serve(&self) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let server = Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(address)
    }

    /// The first span called `name`, once it has come.
    async fn span(&self, name: &str) -> Result<Told> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let found = self.named(name).into_iter().next();
            if let Some(found) = found {
                return Ok(found);
            }
            ensure!(Instant::now() < deadline, "no span {name} has come");
            sleep(POLL).await;
        }
    }

    fn named(&self, name: &str) -> Vec<Told> {
        let kept = self.0.lock().expect("lock");
        kept.iter().filter(|(_, span)| span.name == name).cloned().collect()
    }
}

fn block_on(test: impl Future<Output = Result<()>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    if let Err(error) = runtime.expect("a runtime").block_on(test) {
        panic!("{error:#}");
    }
}

/// The value of the attribute `key`, as text.
fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(value) => value.to_string(),
        Value::IntValue(value) => value.to_string(),
        other => format!("{other:?}"),
    })
}

/// A trace context, of a client that traces its call or does not.
fn traceparent(sampled: bool) -> String {
    format!("00-{TRACE_ID}-{PARENT_ID}-0{}", u8::from(sampled))
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}

fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn txn() -> TxnRequest {
    let compare = Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: "compared".into(),
        target_union: Some(TargetUnion::ModRevision(1)),
        ..Default::default()
    };
    let get = RangeRequest { key: "read".into(), ..Default::default() };
    let get = RequestOp { request: Some(OpRequest::RequestRange(get)) };
    TxnRequest { compare: vec![compare], success: vec![get], failure: Vec::new() }
}

/// Calls `path` as part of the trace of a client that traces its call, or does not.
async fn call(
    client: &RawClient,
    path: &str,
    message: &impl Message,
    sampled: bool,
) -> Result<Bytes, Status> {
    let context = metadata("traceparent", traceparent(sampled).as_bytes());
    let context = context.map_err(|error| Status::internal(error.to_string()))?;
    client.call_with(path, encoded(message), context).await
}

/// Four calls of a client that traces them: one of them fails, one is given up.
async fn four_calls(client: &RawClient) -> Result<()> {
    let range = RangeRequest { key: "a".into(), count_only: true, ..Default::default() };
    call(client, "/etcdserverpb.KV/Range", &range, true).await?;
    let put = PutRequest { key: "a".into(), lease: 7, ..Default::default() };
    let refused = call(client, "/etcdserverpb.KV/Put", &put, true).await;
    ensure!(refused.is_err(), "a put with a lease that does not exist");
    call(client, "/etcdserverpb.KV/Txn", &txn(), true).await?;
    let create = WatchCreateRequest { key: "a".into(), ..Default::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let context = metadata("traceparent", traceparent(true).as_bytes())?;
    let path = "/etcdserverpb.Watch/Watch";
    let mut watch = client.stream(path, vec![encoded(&create)], context).await?;
    watch.message().await?;
    Ok(())
}

/// The same calls leave the same spans, of etcd and of Coracle.
#[test]
fn traces_of_calls_reach_a_collector() {
    for kind in [Kind::Etcd, Kind::Coracle] {
        block_on(async {
            let collector = Collector::default();
            let address = collector.serve().await?;
            let flags = [
                "--experimental-enable-distributed-tracing",
                &format!("--experimental-distributed-tracing-address={address}"),
                "--experimental-distributed-tracing-service-name=traced",
                "--experimental-distributed-tracing-instance-id=first",
            ];
            let cluster = Cluster::start_with(kind, 1, &flags)?;
            four_calls(&RawClient::connect(cluster.endpoint(0)).await?).await?;
            for (service, method, code) in [
                ("etcdserverpb.KV", "Range", "0"),
                ("etcdserverpb.KV", "Put", "5"),
                ("etcdserverpb.KV", "Txn", "0"),
                ("etcdserverpb.Watch", "Watch", "1"),
            ] {
                let (resource, span) = collector.span(&format!("{service}/{method}")).await?;
                ensure!(span.trace_id == bytes_of(TRACE_ID), "{kind:?} {method}: another trace");
                ensure!(span.parent_span_id == bytes_of(PARENT_ID), "{kind:?} {method}: parent");
                ensure!(span.kind == SpanKind::Server as i32, "{kind:?} {method}: {}", span.kind);
                ensure!(span.end_time_unix_nano >= span.start_time_unix_nano);
                let own = [("service.name", "traced"), ("service.instance.id", "first")];
                check(&resource, &own)?;
                let told = [
                    ("rpc.system", "grpc"),
                    ("rpc.service", service),
                    ("rpc.method", method),
                    ("rpc.grpc.status_code", code),
                ];
                check(&span.attributes, &told)?;
            }
            Ok(())
        });
    }
}

/// Spans that etcd 3.7 has within those of calls; 3.5 has none.
#[test]
fn the_work_for_a_traced_call_is_a_span_within() {
    block_on(async {
        let collector = Collector::default();
        let address = format!("--distributed-tracing-address={}", collector.serve().await?);
        let flags = ["--enable-distributed-tracing", &address];
        let cluster = Cluster::start_with(Kind::Coracle, 1, &flags)?;
        four_calls(&RawClient::connect(cluster.endpoint(0)).await?).await?;
        let range = [
            ("range_begin", "a"),
            ("range_end", ""),
            ("rev", "0"),
            ("limit", "0"),
            ("count_only", "true"),
            ("keys_only", "false"),
        ];
        let txn = [
            ("compare_first_key", "compared"),
            ("success_first_key", "read"),
            ("success_first_type", "range"),
            ("success_first_lease", "-1"),
            ("compare_len", "1"),
            ("success_len", "1"),
            ("failure_len", "0"),
            ("read_only", "true"),
        ];
        for (method, name, attributes) in
            [("Range", "range", &range[..]), ("Put", "put", &[("key", "a")]), ("Txn", "txn", &txn)]
        {
            let (_, outer) = collector.span(&format!("etcdserverpb.KV/{method}")).await?;
            let (_, inner) = collector.span(name).await?;
            ensure!(inner.parent_span_id == outer.span_id, "{name} is not within {method}");
            check(&inner.attributes, attributes)?;
        }
        Ok(())
    });
}

/// The client decides, if it says anything; what waits to be sent is sent when the member stops.
#[test]
fn calls_of_clients_that_do_not_say_are_traced_by_the_sampling_rate() {
    for (rate, traced) in [("0", 0), ("1000000", 1)] {
        block_on(async {
            let collector = Collector::default();
            let flags = [
                "--enable-distributed-tracing",
                &format!("--distributed-tracing-address={}", collector.serve().await?),
                &format!("--distributed-tracing-sampling-rate={rate}"),
            ];
            let mut cluster = Cluster::start_with(Kind::Coracle, 1, &flags)?;
            let client = RawClient::connect(cluster.endpoint(0)).await?;
            let range = RangeRequest { key: "a".into(), ..Default::default() };
            client.call("/etcdserverpb.KV/Range", encoded(&range)).await?;
            call(&client, "/etcdserverpb.KV/Range", &range, false).await?;
            cluster.stop(0)?;
            let spans = collector.named("etcdserverpb.KV/Range");
            ensure!(spans.len() == traced, "{} spans at a rate of {rate}", spans.len());
            ensure!(spans.iter().all(|(_, span)| span.parent_span_id.is_empty()));
            Ok(())
        });
    }
}

/// A collector that is not there costs its spans, and no call.
#[test]
fn calls_are_served_without_the_collector() {
    block_on(async {
        let address = format!("127.0.0.1:{}", free_port()?);
        let flags = [
            "--enable-distributed-tracing",
            &format!("--distributed-tracing-address={address}"),
            "--distributed-tracing-sampling-rate=1000000",
        ];
        let mut cluster = Cluster::start_with(Kind::Coracle, 1, &flags)?;
        let client = RawClient::connect(cluster.endpoint(0)).await?;
        let range = RangeRequest { key: "a".into(), ..Default::default() };
        call(&client, "/etcdserverpb.KV/Range", &range, true).await?;
        cluster.stop(0)?;
        let logs = cluster.logs();
        ensure!(logs.contains("Connection refused"), "nothing is said of the collector: {logs}");
        Ok(())
    });
}

fn check(attributes: &[KeyValue], expected: &[(&str, &str)]) -> Result<()> {
    for (key, value) in expected {
        let told = attribute(attributes, key);
        ensure!(told.as_deref() == Some(*value), "{key} is {told:?}, not {value:?}");
    }
    Ok(())
}
