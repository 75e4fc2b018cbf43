//! The flags as data, for manual pages and completions.

use coracle_ctl::{FlagOutline, Outline};

use super::flags::{Effect, Section};
use super::table::FLAGS;

/// `coracle serve` and the flags that its help names.
pub fn outline() -> Outline {
    let shown = FLAGS.iter().filter(|flag| {
        flag.section != Section::Nowhere && matches!(flag.effect, Effect::Acts | Effect::Gate(_))
    });
    Outline {
        name: "serve",
        usage: "",
        short: "Runs a member",
        long: "Runs a member of a cluster. Each flag is also the environment variable ETCD_ and \
               its name in capitals, with _ for -, and a key of the file that --config-file names.",
        flags: shown
            .map(|flag| FlagOutline {
                name: flag.name,
                short: None,
                help: flag.help,
                default: flag.default,
                takes_value: !flag.is_bool(),
                is_global: false,
            })
            .collect(),
        commands: Vec::new(),
    }
}
