//! Logs in etcd's form: one JSON object per line, with zap's keys (ETCD.md LOG-01).
//!
//! ```text
//! {"level":"info","ts":"2026-01-02T15:04:05.000000Z","caller":"src/main.rs:9","msg":"…","id":7}
//! ```

mod output;

use std::fmt::{self, Write as _};
use std::io;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt as subscriber_fmt};

use self::output::Outputs;
use crate::config::settings::{LogConfig, LogOutput};

/// The target of an event that ends the process: its level is `fatal`, which tracing has not.
pub const FATAL: &str = "fatal";

/// Sends the process's logs where `config` says. Does nothing if that was done before.
pub fn start(config: &LogConfig) -> io::Result<()> {
    let layer = subscriber_fmt::layer()
        .event_format(ZapFormat { json: config.json })
        .with_writer(Outputs::open(&config.outputs)?)
        .with_filter(filter(config.level));
    // Fails only where a test or an embedding program has a subscriber already.
    _ = tracing_subscriber::registry().with(layer).try_init();
    Ok(())
}

/// What openraft says is for its developers: the node itself reports what concerns operators. Even
/// those who want to know more want no more than its warnings: the rest is gigabytes a day.
fn filter(level: Level) -> Targets {
    let raft = if level > Level::INFO { LevelFilter::WARN } else { LevelFilter::OFF };
    Targets::new().with_default(LevelFilter::from_level(level)).with_target("openraft", raft)
}

/// Sends the logs to standard error: for what is to be said before the configuration is known.
pub fn start_default() {
    let config = LogConfig { level: Level::INFO, json: true, outputs: vec![LogOutput::Stderr] };
    // Standard error needs no opening.
    _ = start(&config);
}

struct ZapFormat {
    json: bool,
}

impl<S, N> FormatEvent<S, N> for ZapFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let level = match metadata.target() {
            FATAL => FATAL.to_owned(),
            _ => metadata.level().as_str().to_lowercase(),
        };
        let line = metadata.line().unwrap_or_default();
        let caller = format!("{}:{line}", short(metadata.file().unwrap_or_default()));
        if self.json {
            let mut line = Map::new();
            line.insert("level".to_owned(), level.into());
            line.insert("ts".to_owned(), time.into());
            line.insert("caller".to_owned(), caller.into());
            line.insert("msg".to_owned(), fields.message.into());
            line.extend(fields.others);
            writeln!(writer, "{}", ordered(&line))
        } else {
            write!(writer, "{time}\t{level}\t{caller}\t{}", fields.message)?;
            if !fields.others.is_empty() {
                write!(writer, "\t{}", spaced(&fields.others))?;
            }
            writeln!(writer)
        }
    }
}

/// JSON as zap's console lines have it, with spaces.
fn spaced(fields: &Map<String, Value>) -> String {
    let field = |(key, value)| format!("{}: {value}", Value::from(String::as_str(key)));
    format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
}

/// JSON with zap's four keys first, whatever order the map has.
fn ordered(line: &Map<String, Value>) -> String {
    const FIRST: [&str; 4] = ["level", "ts", "caller", "msg"];
    let first = FIRST.iter().filter_map(|key| line.get_key_value(*key));
    let others = line.iter().filter(|(key, _)| !FIRST.contains(&key.as_str()));
    let mut text = String::from("{");
    for (index, (key, value)) in first.chain(others).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        _ = write!(text, "{comma}{}:{value}", Value::from(key.as_str()));
    }
    text.push('}');
    text
}

/// The fields of an event. Names are written with hyphens, as etcd's are.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

/// The file with its folder, as zap names a caller.
fn short(file: &str) -> &str {
    let start = file.rmatch_indices('/').nth(1).map_or(0, |(index, _)| index + 1);
    &file[start..]
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.others.insert(field.name().replace('_', "-"), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.put(field, text.into());
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.put(field, value.into());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(data);
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = subscriber_fmt::layer()
            .event_format(ZapFormat { json })
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(member_id = 7, name = "a\"b", "ready to serve client requests");
        });
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn log_01_json_lines_have_zaps_keys() {
        let line = logged(true);
        assert!(line.starts_with("{\"level\":\"info\",\"ts\":\"20"), "{line}");
        let parsed: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["msg"], "ready to serve client requests");
        assert_eq!((&parsed["member-id"], &parsed["name"]), (&7.into(), &"a\"b".into()));
        assert!(parsed["caller"].as_str().unwrap().starts_with("logging/mod.rs:"));
    }

    #[test]
    fn log_01_openraft_says_little_even_where_all_is_logged() {
        let debug = filter(Level::DEBUG);
        assert!(debug.would_enable("coracle_core::node", &Level::DEBUG));
        assert!(debug.would_enable("openraft::core", &Level::WARN));
        assert!(!debug.would_enable("openraft::core", &Level::INFO));
        let info = filter(Level::INFO);
        assert!(info.would_enable("coracle_core::node", &Level::INFO));
        assert!(!info.would_enable("coracle_core::node", &Level::DEBUG));
        assert!(!info.would_enable("openraft::core", &Level::ERROR));
    }

    #[test]
    fn console_lines_are_tab_separated() {
        let line = logged(false);
        let columns: Vec<_> = line.trim_end().split('\t').collect();
        assert_eq!(columns[1], "info");
        assert_eq!(columns[3], "ready to serve client requests");
        assert_eq!(columns[4], r#"{"member-id": 7, "name": "a\"b"}"#);
    }
}
