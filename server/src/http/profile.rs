//! `/debug/pprof/` (`--enable-pprof`): where the processor's time goes, in the form that `go tool
//! pprof` reads (H-04).
//!
//! There is no runtime of Go's here, so there are no goroutines, and its heap is nobody's. What the
//! operating system tells is the time of each thread, within the program and within the system; the
//! threads are few and each has its task, so that tells much of what etcd's profile would. Nothing
//! is stopped or signalled for it. For functions there is `perf`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::CONTENT_DISPOSITION;
use http::{HeaderValue, Response, StatusCode};
use prost::Message;

use super::metrics::NANOS_PER_TICK;
use super::{Query, content, error};

const INDEX: &str = "\
/debug/pprof/

cmdline: the command line of this process
profile: the processor's time of each thread; ?seconds=N says for how long, 30 if it does not
";
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
const DEFAULT_SECONDS: u64 = 30;
/// Longer than anybody wants to wait.
const MAX_SECONDS: u64 = 600;

/// The page at `path`, which begins with `/debug/pprof/`.
pub(super) async fn page(path: &str, query: &Query<'_>) -> Response<Bytes> {
    match path.strip_prefix("/debug/pprof/") {
        Some("") => content(super::TEXT, INDEX),
        Some("cmdline") => content(super::TEXT, command_line()),
        Some("profile") => profile(query).await,
        _ => error(StatusCode::NOT_FOUND, "Unknown profile"),
    }
}

fn command_line() -> Vec<u8> {
    let words: Vec<_> = std::env::args_os().map(OsStringExt::into_vec).collect();
    words.join(&0)
}

async fn profile(query: &Query<'_>) -> Response<Bytes> {
    let given = query.all("seconds").next().and_then(|text| text.parse().ok());
    let seconds = given.filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_SECONDS).min(MAX_SECONDS);
    let (begun, before) = (SystemTime::now(), threads());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let profile = Profile::of(&before, &threads(), begun, Duration::from_secs(seconds));
    let mut response = content(BINARY, profile.encode_to_vec());
    let attached = HeaderValue::from_static("attachment; filename=\"profile\"");
    response.headers_mut().insert(CONTENT_DISPOSITION, attached);
    response
}

/// Nanoseconds within the program and within the system.
type Times = [i64; 2];

/// The times of all threads of this process, by their identifiers, with their names.
fn threads() -> BTreeMap<String, (String, Times)> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let read = |task: fs::DirEntry| {
        // A thread that has ended meanwhile has none.
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        Some((task.file_name().into_string().ok()?, parse_stat(&stat)?))
    };
    tasks.filter_map(read).collect()
}

fn parse_stat(stat: &str) -> Option<(String, Times)> {
    // The name is in parentheses, and may hold anything.
    let (before, rest) = stat.rsplit_once(") ")?;
    let (_, name) = before.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let nanos = |index: usize| Some(fields.get(index)?.parse::<i64>().ok()? * NANOS_PER_TICK);
    Some((name.to_owned(), [nanos(11)?, nanos(12)?]))
}

// The parts of `profile.proto` of github.com/google/pprof that are used here.

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(message, optional, tag = "11")]
    period_type: Option<ValueType>,
    #[prost(int64, tag = "12")]
    period: i64,
}

/// What a number is, by places in the table of strings.
#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    /// The innermost first.
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Profile {
    /// What the threads did between two looks: below the process a "function" for each name of
    /// threads, and below that one for the program and one for the system.
    fn of(
        before: &BTreeMap<String, (String, Times)>,
        after: &BTreeMap<String, (String, Times)>,
        begun: SystemTime,
        duration: Duration,
    ) -> Profile {
        let since_epoch = begun.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut profile = Profile {
            // The first string is empty: that is the form.
            string_table: vec![String::new()],
            time_nanos: i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX),
            duration_nanos: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX),
            period: NANOS_PER_TICK,
            ..Profile::default()
        };
        let cpu = ValueType { kind: profile.string("cpu"), unit: profile.string("nanoseconds") };
        profile.sample_type.push(cpu.clone());
        profile.period_type = Some(cpu);
        let process = profile.location("coracle");
        let kinds = ["user", "system"].map(|kind| profile.location(kind));
        for (id, (name, times)) in after {
            let former = before.get(id).map_or([0; 2], |(_, times)| *times);
            let thread = profile.location(name);
            for (index, kind) in kinds.into_iter().enumerate() {
                let spent = times[index] - former[index];
                if spent > 0 {
                    let location_id = vec![kind, thread, process];
                    profile.sample.push(Sample { location_id, value: vec![spent] });
                }
            }
        }
        profile
    }

    /// The place of `text` in the table.
    fn string(&mut self, text: &str) -> i64 {
        let found = self.string_table.iter().position(|known| known == text);
        let place = found.unwrap_or_else(|| {
            self.string_table.push(text.to_owned());
            self.string_table.len() - 1
        });
        i64::try_from(place).unwrap_or_default()
    }

    /// The location of the function `name`.
    fn location(&mut self, name: &str) -> u64 {
        let name = self.string(name);
        if let Some(known) = self.function.iter().find(|function| function.name == name) {
            return known.id;
        }
        let id = self.function.len() as u64 + 1;
        self.function.push(Function { id, name });
        self.location.push(Location { id, line: vec![Line { function_id: id }] });
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_04_a_profile_tells_the_time_of_threads_between_two_looks() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 9 8 7 6 150 50 1 1 20 0 9 0 12345 0 0";
        let times = [1_500_000_000, 500_000_000];
        assert_eq!(parse_stat(stat), Some(("a ) b".to_owned(), times)));
        assert_eq!(parse_stat("nonsense"), None);
        let thread = |name: &str, times| (name.to_owned(), times);
        let before = BTreeMap::from([("7".to_owned(), thread("node", [100, 7]))]);
        let after = BTreeMap::from([
            ("7".to_owned(), thread("node", [150, 7])),
            ("8".to_owned(), thread("front", [0, 30])),
        ]);
        let profile = Profile::of(&before, &after, UNIX_EPOCH, Duration::from_secs(2));
        let name = |id: u64| {
            let function = profile.function.iter().find(|function| function.id == id).unwrap();
            profile.string_table[usize::try_from(function.name).unwrap()].as_str()
        };
        let told: Vec<_> = profile
            .sample
            .iter()
            .map(|sample| {
                let stack: Vec<_> = sample.location_id.iter().map(|id| name(*id)).collect();
                (stack, sample.value.clone())
            })
            .collect();
        let expected = [
            (vec!["user", "node", "coracle"], vec![50]),
            (vec!["system", "front", "coracle"], vec![30]),
        ];
        assert_eq!(told, expected);
        assert_eq!((profile.time_nanos, profile.duration_nanos), (0, 2_000_000_000));
    }
}
