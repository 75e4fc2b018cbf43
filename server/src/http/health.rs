//! `/health`, `/livez`, `/readyz`: etcd's answers to the byte (ETCD.md H-01, H-02).

use bytes::Bytes;
use coracle_core::api::etcdserverpb::{AlarmMember, AlarmType, RangeRequest};
use coracle_core::auth::Caller;
use coracle_core::node::NodeInfo;
use http::{Response, StatusCode};

use super::{Query, TEXT, content, error};
use crate::rpc::Member;

/// `/health`: alarms, then the leader, then a read.
pub(super) async fn health(member: &Member, query: &Query<'_>) -> Response<Bytes> {
    let serializable = query.all("serializable").next() == Some("true");
    let excluded: Vec<_> = query.all("exclude").collect();
    let reason = match fault(&member.info(), serializable, &excluded) {
        Some(reason) => Some(reason),
        None => read(member, serializable).await.err().map(|text| format!("RANGE ERROR:{text}")),
    };
    health_response(reason.as_deref())
}

fn health_response(reason: Option<&str>) -> Response<Bytes> {
    let Some(reason) = reason else {
        return content(TEXT, r#"{"health":"true","reason":""}"#);
    };
    let body = serde_json::json!({ "health": "false", "reason": reason });
    error(StatusCode::SERVICE_UNAVAILABLE, &body.to_string())
}

/// What is wrong with the member by its own account.
fn fault(info: &NodeInfo, serializable: bool, excluded: &[&str]) -> Option<String> {
    let raised = |alarm: &&AlarmMember| !excluded.contains(&alarm_name(alarm));
    if let Some(alarm) = info.alarms.iter().find(raised) {
        return Some(format!("ALARM {}", alarm_name(alarm)));
    }
    if info.leader == 0 && !serializable {
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

const LIVEZ: &[Check] = &[SerializableRead];
const READYZ: &[Check] = &[DataCorruption, SerializableRead, LinearizableRead, NonLearner];

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
            SerializableRead => read(member, true).await.map_err(|e| format!("range error: {e}")),
            LinearizableRead => read(member, false).await.map_err(|e| format!("range error: {e}")),
            NonLearner if member.info().is_learner => Err("not supported for learner".to_owned()),
            NonLearner => Ok(()),
        }
    }
}

/// `/livez`, `/readyz`, or one of their checks by name; `None` if `path` is neither.
pub(super) async fn probe(
    member: &Member,
    path: &str,
    query: &Query<'_>,
) -> Option<Response<Bytes>> {
    let checks = checks(path)?;
    let mut results = Vec::new();
    for check in checks {
        let excluded = query.all("exclude").any(|name| name == check.name());
        results.push((check, if excluded { None } else { Some(check.run(member).await) }));
    }
    Some(probe_response(&results, query.all("verbose").next().is_some()))
}

fn checks(path: &str) -> Option<Vec<Check>> {
    let mut parts = path.strip_prefix('/')?.split('/');
    let all = match parts.next()? {
        "livez" => LIVEZ,
        "readyz" => READYZ,
        _ => return None,
    };
    match (parts.next(), parts.next()) {
        (None, None) => Some(all.to_vec()),
        (Some(name), None) => Some(vec![*all.iter().find(|check| check.name() == name)?]),
        _ => None,
    }
}

/// `results` hold `None` for an excluded check.
fn probe_response(
    results: &[(Check, Option<Result<(), String>>)],
    verbose: bool,
) -> Response<Bytes> {
    let mut lines = String::new();
    let mut failed = false;
    for (check, result) in results {
        let name = check.name();
        lines += &match result {
            None => format!("[+]{name} excluded: ok\n"),
            Some(Ok(())) => format!("[+]{name} ok\n"),
            Some(Err(reason)) => {
                failed = true;
                format!("[-]{name} failed: {reason}\n")
            }
        };
    }
    if failed {
        return error(StatusCode::SERVICE_UNAVAILABLE, &lines);
    }
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

    #[test]
    fn h_02_probes() {
        assert_eq!(checks("/livez"), Some(vec![SerializableRead]));
        assert_eq!(checks("/readyz/non_learner"), Some(vec![NonLearner]));
        assert_eq!(checks("/livez/non_learner"), None);
        assert_eq!(checks("/readyz/non_learner/x"), None);
        let good = [(DataCorruption, None), (SerializableRead, Some(Ok(())))];
        assert_eq!(probe_response(&good, false).body(), "ok\n");
        assert_eq!(
            probe_response(&good, true).body(),
            "[+]data_corruption excluded: ok\n[+]serializable_read ok\nok\n"
        );
        let bad = [(LinearizableRead, Some(Err("range error: x".to_owned()))), good[1].clone()];
        let response = probe_response(&bad, false);
        assert_eq!(response.status().as_u16(), 503);
        assert_eq!(
            response.body(),
            "[-]linearizable_read failed: range error: x\n[+]serializable_read ok\n\n"
        );
    }
}
