//! Traces of calls for an OpenTelemetry collector (`--enable-distributed-tracing`).
//!
//! A call is a span that is named as its method; what the node does for it is a span within. A call
//! that comes with a trace context (W3C's `traceparent`) is traced if its client traces it, every
//! other one as often as `--distributed-tracing-sampling-rate` says. Spans go to the collector in
//! batches, some seconds later, by OTLP over plain gRPC. A collector that is not there costs its
//! spans and a line of the log, never a call.
//!
//! Names and attributes are those of etcd 3.7 (opentelemetry.io, semantic conventions for RPC).

use std::sync::Arc;
use std::time::Duration;

use coracle_core::api::etcdserverpb::request_op::Request as Operation;
use coracle_core::api::etcdserverpb::{PutRequest, RangeRequest, TxnRequest};
use coracle_core::apply::is_read_only;
use coracle_core::error::Code;
use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    SpanBuilder, SpanKind, Status as SpanStatus, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span};

use crate::config::TracingConfig;
use crate::front::call::Status;

/// How long the last batch may take when the server stops.
const LAST_BATCH_LIMIT: Duration = Duration::from_secs(1);
const MILLION: f64 = 1_000_000.0;

/// Where spans are made, and go to.
pub(crate) struct Traces {
    provider: SdkTracerProvider,
    tracer: Arc<SdkTracer>,
    propagator: TraceContextPropagator,
}

impl Traces {
    /// Connects to the collector when there are spans to send, on the runtime of the caller.
    ///
    /// Fails if the collector's address is none.
    pub(crate) fn start(config: &TracingConfig) -> Result<Traces, String> {
        let endpoint = format!("http://{}", config.address);
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
        let exporter = exporter.map_err(|error| {
            format!("--distributed-tracing-address={}: {error}", config.address)
        })?;
        let mut resource = Resource::builder_empty().with_service_name(config.service_name.clone());
        if !config.instance_id.is_empty() {
            let id = KeyValue::new("service.instance.id", config.instance_id.clone());
            resource = resource.with_attribute(id);
        }
        let own = match config.samples_per_million {
            0 => Sampler::AlwaysOff,
            samples => Sampler::TraceIdRatioBased(f64::from(samples) / MILLION),
        };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .with_sampler(Sampler::ParentBased(Box::new(own)))
            .build();
        let tracer = Arc::new(provider.tracer("coracle"));
        tracing::info!(address = config.address, "distributed tracing setup enabled");
        Ok(Traces { provider, tracer, propagator: TraceContextPropagator::new() })
    }

    /// The trace of a call that has just arrived with `headers`.
    pub(crate) fn call(
        &self,
        service: &'static str,
        method: &'static str,
        headers: &HeaderMap,
    ) -> CallTrace {
        let parent = self.propagator.extract_with_context(&Context::new(), &Headers(headers));
        let attributes = vec![
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", service),
            KeyValue::new("rpc.method", method),
        ];
        let span = SpanBuilder::from_name(format!("{service}/{method}"))
            .with_kind(SpanKind::Server)
            .with_attributes(attributes);
        let span = self.tracer.build_with_context(span, &parent);
        CallTrace { tracer: self.tracer.clone(), context: parent.with_span(span) }
    }

    /// Sends the spans that wait to be sent.
    pub(crate) async fn stop(&self) {
        let provider = self.provider.clone();
        let stopped =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST_BATCH_LIMIT));
        if let Ok(Err(error)) = stopped.await {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// The metadata of a call, as trace contexts are read from it.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// The span of one call. It ends when the call does, or is dropped.
pub(crate) struct CallTrace {
    tracer: Arc<SdkTracer>,
    context: Context,
}

impl CallTrace {
    /// The call has ended well, or as `failed` says.
    pub(crate) fn ended(&self, failed: Option<&Status>) {
        let span = self.context.span();
        let code = failed.map_or(0, |status| status.code as i64);
        span.set_attribute(KeyValue::new("rpc.grpc.status_code", code));
        if let Some(status) = failed.filter(|status| is_servers_fault(status.code)) {
            span.set_status(SpanStatus::error(status.message.clone()));
        }
        span.end();
    }

    /// The span of what the node does for `request`; it ends when it is dropped.
    pub(crate) fn work<R: Traced>(&self, request: &R) -> Span {
        let span = SpanBuilder::from_name(R::SPAN).with_attributes(request.attributes());
        self.tracer.build_with_context(span, &self.context)
    }
}

/// The codes with which a server's span has failed; others are the client's doing.
fn is_servers_fault(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
}

/// A request whose work has a span of its own.
pub(crate) trait Traced {
    const SPAN: &'static str;

    /// What the span says of the request; never a value.
    fn attributes(&self) -> Vec<KeyValue>;
}

impl Traced for RangeRequest {
    const SPAN: &'static str = "range";

    fn attributes(&self) -> Vec<KeyValue> {
        vec![
            KeyValue::new("range_begin", text(&self.key)),
            KeyValue::new("range_end", text(&self.range_end)),
            KeyValue::new("rev", self.revision),
            KeyValue::new("limit", self.limit),
            KeyValue::new("count_only", self.count_only),
            KeyValue::new("keys_only", self.keys_only),
        ]
    }
}

impl Traced for PutRequest {
    const SPAN: &'static str = "put";

    fn attributes(&self) -> Vec<KeyValue> {
        vec![KeyValue::new("key", text(&self.key))]
    }
}

impl Traced for TxnRequest {
    const SPAN: &'static str = "txn";

    fn attributes(&self) -> Vec<KeyValue> {
        let compared = self.compare.iter().map(|compare| text(&compare.key));
        let operations = || self.success.iter().filter_map(|it| it.request.as_ref());
        vec![
            KeyValue::new("compare_first_key", first_key(compared)),
            KeyValue::new("success_first_key", first_key(operations().map(key_of))),
            KeyValue::new("success_first_type", operations().next().map_or("", name_of)),
            KeyValue::new("success_first_lease", operations().find_map(lease_of).unwrap_or(-1)),
            KeyValue::new("compare_len", count(self.compare.len())),
            KeyValue::new("success_len", count(self.success.len())),
            KeyValue::new("failure_len", count(self.failure.len())),
            KeyValue::new("read_only", is_read_only(self)),
        ]
    }
}

/// The first of `keys` that is not empty.
fn first_key(mut keys: impl Iterator<Item = String>) -> String {
    keys.find(|key| !key.is_empty()).unwrap_or_default()
}

fn key_of(operation: &Operation) -> String {
    match operation {
        Operation::RequestRange(range) => text(&range.key),
        Operation::RequestPut(put) => text(&put.key),
        Operation::RequestDeleteRange(delete) => text(&delete.key),
        Operation::RequestTxn(_) => String::new(),
    }
}

fn name_of(operation: &Operation) -> &'static str {
    match operation {
        Operation::RequestRange(_) => "range",
        Operation::RequestPut(_) => "put",
        Operation::RequestDeleteRange(_) => "delete_range",
        Operation::RequestTxn(_) => "txn",
    }
}

fn lease_of(operation: &Operation) -> Option<i64> {
    match operation {
        Operation::RequestPut(put) => Some(put.lease),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
