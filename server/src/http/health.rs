//! `/health`, `/livez`, `/readyz`: etcd's answers to the byte (ETCD.md H-01, H-02).
//!
//! What is logged of them are etcd's lines too: people have alarms on them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use coracle_core::api::etcdserverpb::{AlarmMember, AlarmType, RangeRequest};
use coracle_core::auth::Caller;
use coracle_core::node::NodeInfo;
use coracle_ctl::go;
use http::{Response, StatusCode};
use tracing::{debug, warn};

use super::{Query, TEXT, content, error};
use crate::rpc::Member;

/// Whether `path` is one of a health check.
pub(super) fn knows(path: &str) -> bool {
    path == "/health" || checks(path).is_some()
}

/// Logs that `path`, which [`knows`] knows, was asked for by another method than GET.
pub(super) fn log_refusal(path: &str) {
    let status_code = StatusCode::METHOD_NOT_ALLOWED.as_u16();
    if path == "/health" {
        warn!(status_code, "/health error");
    } else {
        warn!(path, status_code, "Health request error");
    }
}

/// The page at `path`, which [`knows`] knows.
pub(super) async fn page(
    member: &Member,
    counters: &HealthCounters,
    path: &str,
    query: &Query<'_>,
) -> Response<Bytes> {
    let Some((probe, checks)) = checks(path) else {
        let response = health(member, query).await;
        let healthy = response.status() == StatusCode::OK;
        let counter = if healthy { &counters.successes } else { &counters.failures };
        counter.fetch_add(1, Ordering::Relaxed);
        return response;
    };
    // A check that is asked for by its name is not excluded.
    let is_whole = path.len() == 1 + probe.name().len();
    let checks = if is_whole { remaining(checks, query) } else { checks };
    let mut results = Vec::new();
    for check in checks {
        let result = check.run(member).await;
        counters.of(probe, check).record(result.is_ok());
        results.push((check, result));
    }
    probe_response(path, &results, query.all("verbose").next().is_some())
}

/// The checks that `query` does not exclude. A name of no check excludes nothing.
fn remaining(checks: Vec<Check>, query: &Query<'_>) -> Vec<Check> {
    let mut excluded: Vec<_> = query.all("exclude").filter(|name| !name.is_empty()).collect();
    excluded.sort();
    excluded.dedup();
    let (known, unknown): (Vec<_>, Vec<_>) =
        excluded.into_iter().partition(|name| checks.iter().any(|check| check.name() == *name));
    if !unknown.is_empty() {
        let quoted: Vec<_> = unknown.iter().map(|name| go::quote(name.as_bytes())).collect();
        warn!(missing_health_checks = quoted.join(","), "some health checks cannot be excluded");
    }
    let is_left = |check: &Check| !known.iter().any(|name| *name == check.name());
    checks.into_iter().filter(is_left).collect()
}

/// What was counted of health checks, for `/metrics`.
#[derive(Default)]
pub(super) struct HealthCounters {
    /// Of `/health`.
    pub(super) successes: AtomicU64,
    pub(super) failures: AtomicU64,
    livez: [CheckCounters; CHECKS.len()],
    readyz: [CheckCounters; CHECKS.len()],
}

/// What was counted of one check of one probe.
#[derive(Default)]
pub(super) struct CheckCounters {
    /// The last result.
    pub(super) good: AtomicBool,
    pub(super) successes: AtomicU64,
    pub(super) failures: AtomicU64,
}

impl CheckCounters {
    fn record(&self, good: bool) {
        self.good.store(good, Ordering::Relaxed);
        let counter = if good { &self.successes } else { &self.failures };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl HealthCounters {
    fn of(&self, probe: Probe, check: Check) -> &CheckCounters {
        let counters = match probe {
            Probe::Livez => &self.livez,
            Probe::Readyz => &self.readyz,
        };
        &counters[check as usize]
    }

    /// Every check of every probe: `type` and `name` as in metrics.
    pub(super) fn checks(
        &self,
    ) -> impl Iterator<Item = (&'static str, &'static str, &CheckCounters)> {
        [Probe::Livez, Probe::Readyz].into_iter().flat_map(move |probe| {
            let checks = probe.checks().iter();
            checks.map(move |check| (probe.name(), check.name(), self.of(probe, *check)))
        })
    }

    /// Runs every check once, so that metrics tell of them before anybody asks.
    pub(crate) async fn fill(&self, member: &Member) {
        for probe in [Probe::Livez, Probe::Readyz] {
            for check in probe.checks() {
                let good = check.run(member).await.is_ok();
                self.of(probe, *check).record(good);
            }
        }
    }
}

/// `/health`: alarms, then the leader, then a read.
async fn health(member: &Member, query: &Query<'_>) -> Response<Bytes> {
    let serializable = query.all("serializable").next().as_deref() == Some("true");
    let excluded: Vec<_> = query.all("exclude").collect();
    let excluded: Vec<_> = excluded.iter().map(AsRef::as_ref).collect();
    let reason = match fault(&member.info(), serializable, &excluded) {
        Some(reason) => Some(reason),
        None => range_fault(read(member, serializable).await),
    };
    health_response(reason.as_deref())
}

fn range_fault(read: Result<(), String>) -> Option<String> {
    let Err(error) = read else {
        debug!("serving /health true");
        return None;
    };
    warn!(error, "serving /health false; Range fails");
    Some(format!("RANGE ERROR:{error}"))
}

fn health_response(reason: Option<&str>) -> Response<Bytes> {
    let Some(reason) = reason else {
        debug!(status_code = StatusCode::OK.as_u16(), "/health OK");
        return content(TEXT, r#"{"health":"true","reason":""}"#);
    };
    let body = serde_json::json!({ "health": "false", "reason": reason }).to_string();
    let status = StatusCode::SERVICE_UNAVAILABLE;
    warn!(output = body, status_code = status.as_u16(), "/health error");
    error(status, &body)
}

/// What is wrong with the member by its own account.
fn fault(info: &NodeInfo, serializable: bool, excluded: &[&str]) -> Option<String> {
    for alarm in &info.alarms {
        let name = alarm_name(alarm);
        // Go's text of the message, which ends in a space.
        let text = format!("memberID:{} alarm:{name} ", alarm.member_id);
        if excluded.contains(&name) {
            debug!(alarm = text, "/health excluded alarm");
            continue;
        }
        warn!(alarm = text, "serving /health false due to an alarm");
        return Some(format!("ALARM {name}"));
    }
    if info.leader == 0 && !serializable {
        warn!("serving /health false; no leader");
        return Some("RAFT NO LEADER".to_owned());
    }
    None
}

fn alarm_name(alarm: &AlarmMember) -> &'static str {
    match alarm.alarm() {
        AlarmType::Nospace => "NOSPACE",
        AlarmType::Corrupt => "CORRUPT",
        AlarmType::None => "UNKNOWN",
    }
}

/// The cheapest read that goes all the way.
async fn read(member: &Member, serializable: bool) -> Result<(), String> {
    let key = Bytes::from_static(b"a");
    let request = RangeRequest { key, limit: 1, serializable, ..RangeRequest::default() };
    let result = member.range(&Caller::Internal, request).await;
    result.map(|_| ()).map_err(|error| error.message().to_owned())
}

/// One check of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

use Check::{DataCorruption, LinearizableRead, NonLearner, SerializableRead};

/// Every check, in the order of its number.
const CHECKS: [Check; 4] = [DataCorruption, SerializableRead, LinearizableRead, NonLearner];

/// A path with checks below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Livez,
    Readyz,
}

impl Probe {
    fn name(self) -> &'static str {
        match self {
            Probe::Livez => "livez",
            Probe::Readyz => "readyz",
        }
    }

    fn checks(self) -> &'static [Check] {
        match self {
            Probe::Livez => &[SerializableRead],
            Probe::Readyz => &CHECKS,
        }
    }
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            DataCorruption => "data_corruption",
            SerializableRead => "serializable_read",
            LinearizableRead => "linearizable_read",
            NonLearner => "non_learner",
        }
    }

    async fn run(self, member: &Member) -> Result<(), String> {
        match self {
            DataCorruption => {
                let corrupt = |alarm: &AlarmMember| alarm.alarm() == AlarmType::Corrupt;
                if member.info().alarms.iter().any(corrupt) {
                    return Err("alarm activated: CORRUPT".to_owned());
                }
                Ok(())
            }
            SerializableRead => read(member, true).await,
            LinearizableRead => read(member, false).await,
            NonLearner if member.info().is_learner => Err("not supported for learner".to_owned()),
            NonLearner => Ok(()),
        }
    }
}

/// The checks behind `/livez`, `/readyz`, or one of them by its name.
fn checks(path: &str) -> Option<(Probe, Vec<Check>)> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let name = parts.next()?;
    let probe = [Probe::Livez, Probe::Readyz].into_iter().find(|probe| probe.name() == name)?;
    match (parts.next(), parts.next()) {
        (None, None) => Some((probe, probe.checks().to_vec())),
        (Some(name), None) => {
            let check = probe.checks().iter().find(|check| check.name() == name)?;
            Some((probe, vec![*check]))
        }
        _ => None,
    }
}

fn probe_response(
    path: &str,
    results: &[(Check, Result<(), String>)],
    verbose: bool,
) -> Response<Bytes> {
    let mut lines = String::new();
    let mut failed = false;
    for (check, result) in results {
        let name = check.name();
        lines += &match result {
            Ok(()) => format!("[+]{name} ok\n"),
            Err(reason) => {
                failed = true;
                format!("[-]{name} failed: {reason}\n")
            }
        };
    }
    if failed {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let status_code = status.as_u16();
        tracing::error!(path, reason = lines, status_code, "Health check error");
        return error(status, &lines);
    }
    debug!(path, reason = lines, status_code = StatusCode::OK.as_u16(), "Health check OK");
    let mut response = content(TEXT, if verbose { lines + "ok\n" } else { "ok\n".to_owned() });
    response.headers_mut().insert(super::CONTENT_TYPE_OPTIONS, super::NO_SNIFF);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(leader: u64, alarms: &[AlarmType]) -> NodeInfo {
        let alarms = alarms.iter().map(|alarm| AlarmMember { member_id: 1, alarm: *alarm as i32 });
        NodeInfo { leader, alarms: alarms.collect(), ..NodeInfo::default() }
    }

    #[test]
    fn h_01_bodies() {
        let healthy = health_response(None);
        assert_eq!(
            (healthy.status().as_u16(), &healthy.body()[..]),
            (200, &br#"{"health":"true","reason":""}"#[..])
        );
        let ill = health_response(Some("ALARM NOSPACE"));
        assert_eq!(ill.status().as_u16(), 503);
        assert_eq!(ill.body(), "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n");
    }

    #[test]
    fn h_01_order_of_checks() {
        let reason = |info: &NodeInfo, serializable, excluded: &[&str]| {
            fault(info, serializable, excluded).unwrap_or_default()
        };
        assert_eq!(reason(&info(1, &[]), false, &[]), "");
        assert_eq!(reason(&info(0, &[]), false, &[]), "RAFT NO LEADER");
        assert_eq!(reason(&info(0, &[]), true, &[]), "");
        let both = info(0, &[AlarmType::Nospace, AlarmType::Corrupt]);
        assert_eq!(reason(&both, false, &[]), "ALARM NOSPACE");
        assert_eq!(reason(&both, false, &["NOSPACE"]), "ALARM CORRUPT");
        assert_eq!(reason(&both, false, &["NOSPACE", "CORRUPT"]), "RAFT NO LEADER");
    }

    /// What `work` logs, as the level, the text and the fields of each line.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

        #[derive(Default)]
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!(" {}={value:?}", field.name());
            }
        }
        #[derive(Clone, Default)]
        struct Lines(std::sync::Arc<std::sync::Mutex<Vec<String>>>);
        impl<S: tracing::Subscriber> Layer<S> for Lines {
            fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
                let mut line = Line(event.metadata().level().to_string());
                event.record(&mut line);
                self.0.lock().unwrap().push(line.0);
            }
        }
        let lines = Lines::default();
        // Of one subscriber alone tracing asks the thread that first comes to a line whether it
        // listens: the thread of another test would say no for all.
        let _another = tracing::Dispatch::new(tracing_subscriber::registry());
        let subscriber = tracing_subscriber::registry().with(lines.clone());
        tracing::subscriber::with_default(subscriber, work);
        lines.0.lock().unwrap().split_off(0)
    }

    #[test]
    fn h_01_failures_are_logged_with_etcds_lines() {
        let lines = logged(|| {
            fault(&info(1, &[AlarmType::Nospace]), false, &[]);
            fault(&info(0, &[]), false, &[]);
            range_fault(Err("x".to_owned()));
            health_response(Some("RANGE ERROR:x"));
            log_refusal("/health");
        });
        assert_eq!(
            lines,
            [
                "WARN message=serving /health false due to an alarm \
                 alarm=\"memberID:1 alarm:NOSPACE \"",
                "WARN message=serving /health false; no leader",
                "WARN message=serving /health false; Range fails error=\"x\"",
                "WARN message=/health error \
                 output=\"{\\\"health\\\":\\\"false\\\",\\\"reason\\\":\\\"RANGE ERROR:x\\\"}\" \
                 status_code=503",
                "WARN message=/health error status_code=405",
            ]
        );
    }

    #[test]
    fn h_02_failures_are_logged_with_etcds_lines() {
        let lines = logged(|| {
            let query = Query("exclude=foo&exclude=&exclude=non_learner&exclude=bar&exclude=foo");
            let left = remaining(CHECKS.to_vec(), &query);
            assert_eq!(left, [DataCorruption, SerializableRead, LinearizableRead]);
            probe_response("/readyz", &[(NonLearner, Err("x".to_owned()))], false);
            log_refusal("/livez");
        });
        assert_eq!(
            lines,
            [
                "WARN message=some health checks cannot be excluded \
                 missing_health_checks=\"\\\"bar\\\",\\\"foo\\\"\"",
                "ERROR message=Health check error path=\"/readyz\" \
                 reason=\"[-]non_learner failed: x\\n\" status_code=503",
                "WARN message=Health request error path=\"/livez\" status_code=405",
            ]
        );
    }

    #[test]
    fn h_02_probes() {
        let found = |path| checks(path).map(|(_, checks)| checks);
        assert_eq!(found("/livez"), Some(vec![SerializableRead]));
        assert_eq!(found("/readyz"), Some(CHECKS.to_vec()));
        assert_eq!(found("/readyz/non_learner"), Some(vec![NonLearner]));
        assert_eq!(found("/livez/non_learner"), None);
        assert_eq!(found("/readyz/non_learner/x"), None);
        assert!(!knows("/readyz/"));
        let good = [(DataCorruption, Ok(())), (SerializableRead, Ok(()))];
        assert_eq!(probe_response("/readyz", &good, false).body(), "ok\n");
        assert_eq!(
            probe_response("/readyz", &good, true).body(),
            "[+]data_corruption ok\n[+]serializable_read ok\nok\n"
        );
        let bad = [(LinearizableRead, Err("x".to_owned())), good[1].clone()];
        let response = probe_response("/readyz", &bad, false);
        assert_eq!(response.status().as_u16(), 503);
        assert_eq!(response.body(), "[-]linearizable_read failed: x\n[+]serializable_read ok\n\n");
    }
}
