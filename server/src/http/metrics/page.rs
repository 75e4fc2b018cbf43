//! A page of Prometheus' text format being written.

use std::fmt::{Display, Write};

use coracle_core::meters::Histogram;

/// See the module.
#[derive(Default)]
pub(super) struct Page(String);

/// Labels of a sample, in the order of their names.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    pub(super) fn into_text(self) -> String {
        self.0
    }

    /// Begins a family; its samples follow.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        let labels: Vec<_> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        _ = writeln!(self.0, "{name}{labels} {value}");
    }

    pub(super) fn gauge(&mut self, name: &str, value: impl Display, help: &str) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    pub(super) fn counter(&mut self, name: &str, value: impl Display, help: &str) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    pub(super) fn histogram(&mut self, name: &str, histogram: &Histogram, help: &str) {
        self.family(name, "histogram", help);
        self.distribution(name, &[], histogram);
    }

    /// The samples of one histogram of a family.
    pub(super) fn distribution(&mut self, name: &str, labels: Labels<'_>, histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        let with_bound = |bound: &str| {
            let mut all: Vec<(String, String)> =
                labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            all.push(("le".to_owned(), bound.to_owned()));
            all
        };
        let bounds = histogram.buckets.iter().map(|(bound, count)| (bound.to_string(), *count));
        for (bound, count) in bounds.chain([("+Inf".to_owned(), histogram.count)]) {
            let all = with_bound(&bound);
            let all: Vec<_> = all.iter().map(|(key, value)| (&key[..], &value[..])).collect();
            self.sample(&bucket, &all, count);
        }
        self.sample(&format!("{name}_sum"), labels, histogram.sum);
        self.sample(&format!("{name}_count"), labels, histogram.count);
    }
}

/// A label's value between its quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_in_prometheus_text_format() {
        let mut page = Page::default();
        let wal_fsync = Histogram { buckets: vec![(0.001, 2), (0.5, 3)], count: 4, sum: 1.5 };
        page.histogram("name", &wal_fsync, "Help.");
        page.sample("other", &[("a", "x\"\\\n"), ("b", "ü")], 7);
        assert_eq!(
            page.into_text().lines().collect::<Vec<_>>(),
            [
                "# HELP name Help.",
                "# TYPE name histogram",
                "name_bucket{le=\"0.001\"} 2",
                "name_bucket{le=\"0.5\"} 3",
                "name_bucket{le=\"+Inf\"} 4",
                "name_sum 1.5",
                "name_count 4",
                "other{a=\"x\\\"\\\\\\n\",b=\"ü\"} 7",
            ]
        );
    }
}
