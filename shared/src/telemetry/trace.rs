//! Trace context in and out, one span per record or request, and one per thing that is done for several of them in one go.
//!
//! The context of the producer goes on to the downstreams whether spans are exported or not. Spans are kept in memory
//! and sent by [`Tracing::flush`] at the end of an invocation: a batch processor's own thread would be frozen with the
//! environment, and blocking on it would stop the one thread that the export itself needs.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use opentelemetry::{
    Context, KeyValue,
    trace::{
        Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
        Tracer, TracerProvider,
    },
};
use opentelemetry_http::HttpError;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanProcessor},
};
use tokio::time::timeout;
use tracing::warn;
use uuid::Uuid;

use crate::{
    client::http::{HttpClient, http_url},
    config::Reader,
    deadline::Deadline,
    failure::chain,
};

/// The longest `baggage` that is passed on, in bytes. With the other headers of a call it stays below what proxies take: 8
/// KiB of headers are usual.
const LONGEST_BAGGAGE: usize = 4 * 1024;

/// How long the spans of one invocation may take to send.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// More of a collector's answer is not read.
const LONGEST_ANSWER: usize = 256 * 1024;

/// The longest trace id that is taken from somebody else, in characters.
const LONGEST_TRACE_ID: usize = 64;

/// How many digits the number of a payment card has, by ISO/IEC 7812 and in practice.
const CARD_DIGITS: RangeInclusive<usize> = 12..=19;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

/// The one protocol that spans go out by.
const HTTP_PROTOBUF: &str = "http/protobuf";

/// Where a collector takes gRPC unless it is told otherwise.
const GRPC_PORT: u16 = 4317;

/// What a person reads who wants gRPC.
const NO_GRPC: &str = "no function carries a gRPC exporter, because it would enlarge all of them; use the collector's port \
                       for HTTP, which is 4318 as a rule";

/// The attribute of a span that says how that which it is about ended.
pub const OUTCOME: &str = "holdfast.outcome";

/// The W3C trace context of a producer, or of our own span, as headers carry it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// `traceparent`: version, trace id, parent span id, flags.
    pub traceparent: Option<String>,
    /// `baggage`: what the producer wants every service to know.
    pub baggage: Option<String>,
}

impl TraceContext {
    /// The first valid of `traceparents`, else the one that `x_ray` (SQS's `AWSTraceHeader`) says in its own form; and
    /// the first baggage that a header can carry.
    pub fn first_of<'a>(
        traceparents: impl IntoIterator<Item = Option<&'a str>>,
        x_ray: Option<&str>,
        baggages: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Self {
        let w3c = traceparents.into_iter().flatten().find_map(passed_on);
        let baggage = baggages.into_iter().flatten().find(|text| is_header_text(text)).map(str::to_owned);
        Self { traceparent: w3c.or_else(|| x_ray.and_then(traceparent_of_x_ray)), baggage }
    }

    /// A context whose parent span is a new one that nobody exports, in the trace with this id: 32 hex digits in small
    /// letters. Nothing: the id is not such a number.
    pub fn begun(trace_id: &str, sampled: bool, baggage: Option<&str>) -> Option<Self> {
        let span_id = &Uuid::new_v4().simple().to_string()[..16];
        let traceparent = format!("00-{trace_id}-{span_id}-{:02x}", u8::from(sampled));
        let context = Self::first_of([Some(traceparent.as_str())], None, [baggage]);
        context.traceparent.is_some().then_some(context)
    }

    /// The trace id, when there is a context.
    pub fn trace_id(&self) -> Option<&str> {
        self.traceparent.as_deref()?.get(3..35)
    }
}

/// Where spans go; without an exporter, nowhere.
#[derive(Debug, Default)]
pub struct Tracing(Option<Exporting>);

#[derive(Debug)]
struct Exporting {
    tracer: SdkTracer,
    finished: Finished,
    collector: Collector,
    /// Empty after an export that did not succeed: its connection may be dead, and the next export makes another.
    exporter: Mutex<Option<SpanExporter>>,
    // The provider ends its spans' export when it is dropped.
    _provider: SdkTracerProvider,
}

impl Tracing {
    /// Exports to `endpoint` by `http/protobuf` under the service name `service`. Nothing connects before the first flush.
    ///
    /// # Errors
    /// When `endpoint` is no URL that can be used; the text says why.
    pub fn to(endpoint: &str, timeout: Duration, service: &'static str) -> Result<Self, String> {
        let resource = Resource::builder().with_service_name(service).build();
        let collector = Collector { endpoint: endpoint.to_owned(), timeout, resource: resource.clone() };
        let exporter = Mutex::new(Some(collector.exporter()?));
        let finished = Finished::default();
        let provider =
            SdkTracerProvider::builder().with_resource(resource).with_span_processor(finished.clone()).build();
        let tracer = provider.tracer("holdfast");
        Ok(Self(Some(Exporting { tracer, finished, collector, exporter, _provider: provider })))
    }

    /// Where the environment, or the secret, wants spans. Nothing: what is wrong is noted.
    pub fn configured(reader: &mut Reader<'_>, service: &'static str) -> Option<Self> {
        let protocol = reader.optional(PROTOCOL);
        match protocol.as_deref() {
            None | Some(HTTP_PROTOBUF) => {}
            Some("grpc") => {
                reader.fault(PROTOCOL, format!("must be {HTTP_PROTOBUF}, not grpc: {NO_GRPC}"));
                return None;
            }
            Some(other) => {
                reader.fault(PROTOCOL, format!("must be {HTTP_PROTOBUF}, not {other:?}"));
                return None;
            }
        }
        let Some(endpoint) = reader.optional_or_secret(ENDPOINT, "otel_endpoint") else {
            return Some(Self::default());
        };
        let built = match http_url(&endpoint) {
            None => Err("can't be used: it is not an http or https URL".to_owned()),
            Some(url) if protocol.is_none() && url.port() == Some(GRPC_PORT) => Err(format!(
                "has port {GRPC_PORT}, where a collector takes gRPC: {NO_GRPC}, or set {PROTOCOL} to {HTTP_PROTOBUF} if it takes that there"
            )),
            Some(_) => Self::to(&endpoint, EXPORT_TIMEOUT, service).map_err(|error| format!("can't be used: {error}")),
        };
        built.map_err(|error| reader.fault(ENDPOINT, error)).ok()
    }

    /// Starts the span of one record or request, in the trace of its producer; that of a consumer is linked to it as well.
    /// `kind` and `attributes` say what kind of trigger it came from.
    pub fn start(
        &self,
        name: &'static str,
        kind: SpanKind,
        producer: TraceContext,
        attributes: impl IntoIterator<Item = KeyValue>,
    ) -> RecordTrace {
        let Some(exporting) = &self.0 else {
            return RecordTrace { span: None, outgoing: producer };
        };
        let parent = producer.traceparent.as_deref().and_then(parse_traceparent);
        let is_consumer = kind == SpanKind::Consumer;
        let mut builder = exporting.tracer.span_builder(name).with_kind(kind).with_attributes(attributes);
        let mut context = Context::new();
        if let Some(parent) = parent {
            if is_consumer {
                builder = builder.with_links(vec![Link::with_context(parent.clone())]);
            }
            context = context.with_remote_span_context(parent);
        }
        let span = builder.start_with_context(&exporting.tracer, &context);
        let traceparent = Some(format_traceparent(span.span_context()));
        RecordTrace { span: Some(span), outgoing: TraceContext { traceparent, baggage: producer.baggage } }
    }

    /// Starts the span of something that is done for several records in one go. It is a trace of its own, linked to the spans
    /// of those records, whose contexts are `of`: it is no more one's than another's. Records that nobody samples have none.
    pub fn start_for_all<'a>(
        &self,
        name: &'static str,
        of: impl Iterator<Item = &'a TraceContext>,
        attributes: impl IntoIterator<Item = KeyValue>,
    ) -> RecordTrace {
        let links: Vec<Link> = of
            .filter_map(|context| parse_traceparent(context.traceparent.as_deref()?))
            .filter(SpanContext::is_sampled)
            .map(Link::with_context)
            .collect();
        let span = self.0.as_ref().filter(|_| !links.is_empty()).map(|exporting| {
            let builder = exporting.tracer.span_builder(name).with_kind(SpanKind::Client).with_attributes(attributes);
            builder.with_links(links).start_with_context(&exporting.tracer, &Context::new())
        });
        RecordTrace { span, outgoing: TraceContext::default() }
    }

    /// Sends the finished spans. It takes as long as the exporter's timeout at most.
    ///
    /// # Errors
    /// The spans are then lost, as nothing but telemetry may be; the text says why.
    pub async fn flush(&self) -> Result<(), String> {
        let Some(exporting) = &self.0 else { return Ok(()) };
        let spans = exporting.finished.take();
        if spans.is_empty() {
            return Ok(());
        }
        let kept = || exporting.exporter.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = kept().take();
        let exporter = match taken {
            Some(exporter) => exporter,
            None => exporting.collector.exporter()?,
        };
        exporter.export(spans).await.map_err(|error| chain(&error))?;
        *kept() = Some(exporter);
        Ok(())
    }

    /// As [`Tracing::flush`], at the end of an invocation: spans that can't be sent in the time left are a line of the log.
    pub async fn flush_before(&self, deadline: Deadline) {
        match timeout(deadline.spare(), self.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error, "the spans of this invocation could not be exported"),
            Err(_elapsed) => warn!("the spans of this invocation could not be exported before its deadline"),
        }
    }
}

/// Where spans are sent.
#[derive(Debug)]
struct Collector {
    endpoint: String,
    timeout: Duration,
    resource: Resource,
}

impl Collector {
    fn exporter(&self) -> Result<SpanExporter, String> {
        let Self { endpoint, timeout, .. } = self;
        let built = SpanExporter::builder()
            .with_http()
            .with_http_client(Carrier { http: HttpClient::new(LONGEST_ANSWER), timeout: *timeout })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(*timeout)
            .build();
        let mut exporter = built.map_err(|error| chain(&error))?;
        exporter.set_resource(&self.resource);
        Ok(exporter)
    }
}

/// Carries spans over HTTP by the rules of all our calls: a redirect is an answer like any other, and is not followed.
#[derive(Debug)]
struct Carrier {
    http: HttpClient<Full<Bytes>>,
    timeout: Duration,
}

#[async_trait]
impl opentelemetry_http::HttpClient for Carrier {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = async {
            let (head, body) = self.http.send(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        timeout(self.timeout, answer).await?
    }
}

/// The span of one record or request, or of something that is done for several, and the context that its remote calls carry.
#[derive(Debug)]
pub struct RecordTrace {
    span: Option<Span>,
    /// What goes on to the downstreams.
    pub outgoing: TraceContext,
}

impl RecordTrace {
    /// Ends the span. `ending` is the attribute that says how.
    pub fn finish(mut self, ending: KeyValue, error: Option<&str>) {
        if let Some(span) = &mut self.span {
            span.set_attribute(ending);
            if let Some(error) = error {
                span.set_status(Status::error(error.to_owned()));
            }
            span.end();
        }
    }
}

/// Spans that wait for the flush.
#[derive(Debug, Clone, Default)]
struct Finished(Arc<Mutex<Vec<SpanData>>>);

impl Finished {
    fn take(&self) -> Vec<SpanData> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SpanProcessor for Finished {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// A trace id that somebody else wrote: 1 to 64 of `[A-Za-z0-9._-]`, among them the W3C's 32 hex digits. Anything else is
/// left out, because it stands in every log line. What may be a card's number is left out too, 12 to 19 digits and nothing
/// but separators between them: a trace id of only digits is rare, and its trace is found by the `traceparent` too.
pub fn foreign_id(text: String) -> Option<String> {
    let separator = |byte: u8| matches!(byte, b'.' | b'_' | b'-');
    let valid = (1..=LONGEST_TRACE_ID).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || separator(byte));
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let only_digits = text.bytes().all(|byte| byte.is_ascii_digit() || separator(byte));
    (valid && !(only_digits && CARD_DIGITS.contains(&digits))).then_some(text)
}

/// A valid `traceparent`, as it goes on. One of a later version goes on in the version that is known here, as the W3C asks
/// for: what its sender appended may be long, and means nothing to us.
fn passed_on(text: &str) -> Option<String> {
    let context = parse_traceparent(text)?;
    Some(if text.starts_with("00-") { text.to_owned() } else { format_traceparent(&context) })
}

/// Reads `00-{trace id}-{span id}-{flags}`; a later version may append more parts, and of its flags only the first is known.
/// <https://www.w3.org/TR/trace-context/#versioning-of-traceparent>
fn parse_traceparent(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower_hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let well_formed = lower_hex(version, 2) && lower_hex(trace, 32) && lower_hex(span, 16) && lower_hex(flags, 2);
    let known_flags = match (version, parts.next()) {
        ("00", None) => u8::MAX,
        ("00", Some(_)) | ("ff", _) => return None,
        (_, _) => TraceFlags::SAMPLED.to_u8(),
    };
    if !well_formed {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()? & known_flags);
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        flags,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

fn format_traceparent(context: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8())
}

/// Turns `Root=1-{8 hex}-{24 hex};Parent={16 hex};Sampled={0|1}` into a `traceparent`.
fn traceparent_of_x_ray(header: &str) -> Option<String> {
    let flags = if x_ray_field(header, "Sampled") == Some("1") { "01" } else { "00" };
    let traceparent = format!("00-{}-{}-{flags}", x_ray_trace_id(header)?, x_ray_field(header, "Parent")?);
    parse_traceparent(&traceparent).is_some().then_some(traceparent)
}

/// The context that an `X-Amzn-Trace-Id` without a parent begins: API Gateway names a root and no span of its own. Whether
/// the trace is sampled is then ours to say, unless the header says no.
pub fn begun_by_x_ray(header: &str, baggage: Option<&str>) -> Option<TraceContext> {
    let sampled = x_ray_field(header, "Sampled") != Some("0");
    TraceContext::begun(&x_ray_trace_id(header)?, sampled, baggage)
}

/// The trace id that `Root=1-{8 hex}-{24 hex}` names, in the W3C's form; its digits are not looked at.
fn x_ray_trace_id(header: &str) -> Option<String> {
    let mut root = x_ray_field(header, "Root")?.split('-');
    let (version, time, random) = (root.next()?, root.next()?, root.next()?);
    (version == "1").then(|| format!("{time}{random}"))
}

fn x_ray_field<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Whether a header can carry it: visible ASCII and blanks, and not too long.
fn is_header_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_BAGGAGE && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const X_RAY: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";

    #[test]
    fn the_first_valid_traceparent_wins_and_x_ray_comes_last() {
        let found = TraceContext::first_of([Some("junk"), None, Some(PARENT)], Some(X_RAY), []);
        assert_eq!(found.traceparent.as_deref(), Some(PARENT));
        assert_eq!(found.trace_id(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        let found = TraceContext::first_of([None], Some(X_RAY), []);
        assert_eq!(found.traceparent.as_deref(), Some("00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"));
    }

    #[test]
    fn a_context_of_a_later_version_goes_on_in_the_known_one_without_its_tail() {
        let later = PARENT.replacen("00", "cc", 1);
        for tail in ["", "-", "-what-the-future-will-be-like", "-\r\nHost: evil", &format!("-{}", "x".repeat(8_192))] {
            let found = TraceContext::first_of([Some(format!("{later}{tail}").as_str())], None, []);
            assert_eq!(found.traceparent.as_deref(), Some(PARENT), "{tail:.20}");
        }
        let flags = later.replace("-01", "-fe");
        let found = TraceContext::first_of([Some(flags.as_str())], None, []);
        assert_eq!(found.traceparent, Some(PARENT.replace("-01", "-00")), "only the first flag is known");
    }

    #[test]
    fn a_broken_context_is_no_context() {
        for broken in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473é-00f067aa0ba902b7-01",
            "Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
            "Root=1-5759e988-bd862e3fe1be46a99427279;Parent=53995c3f42cd8ad8;Sampled=1",
        ] {
            assert_eq!(TraceContext::first_of([Some(broken)], Some(broken), []), TraceContext::default(), "{broken}");
        }
    }

    #[test]
    fn a_root_without_a_parent_begins_a_context_in_its_trace() {
        let root = "Root=1-6a5145a9-1bae89e2512ec92d5d9438a0";
        let begun = |header: &str| begun_by_x_ray(header, Some("a=b")).map(|context| context.traceparent.unwrap());
        let first = begun(root).unwrap();
        assert_eq!((&first[..36], &first[52..]), ("00-6a5145a91bae89e2512ec92d5d9438a0-", "-01"), "{first}");
        assert_ne!(begun(root), Some(first), "each has a span of its own");
        assert!(begun(&format!("{root};Sampled=0")).unwrap().ends_with("-00"));
        assert_eq!(begun_by_x_ray(root, Some("a=b")).unwrap().baggage.as_deref(), Some("a=b"));
        for broken in ["", "Root=", "Root=1-6a5145a9", "Root=2-6a5145a9-1bae89e2512ec92d5d9438a0", "Root=1-é-é"] {
            assert_eq!(begun(broken), None, "{broken}");
        }
        assert_eq!(TraceContext::first_of([], Some(root), []), TraceContext::default(), "a parent is never made up");
    }

    #[test]
    fn baggage_is_passed_on_only_as_far_as_a_header_carries_it() {
        let baggage = |text: &str| TraceContext::first_of([], None, [Some(text)]).baggage;
        assert_eq!(baggage("tenant=acme").as_deref(), Some("tenant=acme"));
        assert_eq!(baggage("a=b\r\nHost: evil"), None);
        let longest = "x".repeat(4_096);
        assert_eq!(baggage(&longest), Some(longest.clone()));
        assert_eq!(baggage(&(longest + "x")), None);
    }

    #[test]
    fn without_an_exporter_the_producers_context_goes_on_as_it_came() {
        let producer = TraceContext { traceparent: Some(PARENT.into()), baggage: Some("a=b".into()) };
        let trace = Tracing::default().start("process", SpanKind::Consumer, producer.clone(), []);
        assert_eq!(trace.outgoing, producer);
    }

    #[tokio::test]
    async fn with_an_exporter_the_outgoing_context_is_a_child_of_the_producers() {
        let tracing = Tracing::to("http://127.0.0.1:9", Duration::from_millis(50), "payment-failed").unwrap();
        let producer = TraceContext { traceparent: Some(PARENT.into()), baggage: None };
        let trace = tracing.start("process", SpanKind::Consumer, producer.clone(), []);
        assert_eq!(trace.outgoing.trace_id(), producer.trace_id());
        assert_ne!(trace.outgoing.traceparent, producer.traceparent);
        trace.finish(KeyValue::new("holdfast.outcome", "success"), None);
        assert!(tracing.flush().await.is_err(), "nothing listens there, and that must end in an error, not a hang");
        assert!(tracing.flush().await.is_ok(), "a lost span is not sent again");
    }
}
