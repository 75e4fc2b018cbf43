//! Feature gates (`--feature-gates=A=true,B=false`), by etcd's names.

use std::collections::BTreeMap;
use std::fmt::Write;

use coracle_ctl::go;

/// How finished etcd calls a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Alpha,
    Beta,
}

impl Stage {
    /// As the metric `etcd_server_feature_enabled` names it.
    pub fn label(self) -> &'static str {
        match self {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
        }
    }
}

/// One feature: its name, its stage, and whether it is on if nobody says.
#[derive(Debug)]
pub struct Gate {
    pub name: &'static str,
    pub stage: Stage,
    default: bool,
    /// Why turning it changes nothing here, if so.
    idle: Option<&'static str>,
}

const fn gate(name: &'static str, stage: Stage, default: bool) -> Gate {
    Gate { name, stage, default, idle: None }
}

impl Gate {
    const fn idle(self, reason: &'static str) -> Gate {
        Gate { idle: Some(reason), ..self }
    }
}

/// Those of etcd 3.7.
pub const GATES: &[Gate] = &[
    gate("CompactHashCheck", Stage::Alpha, false),
    gate("FastLeaseKeepAlive", Stage::Beta, true),
    gate("InitialCorruptCheck", Stage::Alpha, false),
    gate("LeaseCheckpoint", Stage::Alpha, false).idle("leases are always checkpointed"),
    gate("LeaseCheckpointPersist", Stage::Alpha, false).idle("leases are always checkpointed"),
    gate("PriorityRequest", Stage::Alpha, false).idle("revocations do not wait behind requests"),
    gate("SetMemberLocalAddr", Stage::Alpha, false),
    gate("StopGRPCServiceOnDefrag", Stage::Alpha, false).idle("defragmenting stops nobody"),
    gate("TxnModeWriteWithSharedBuffer", Stage::Beta, true).idle("the backend is not bbolt"),
];

pub(super) fn find(name: &str) -> Option<&'static Gate> {
    GATES.iter().find(|gate| gate.name == name)
}

/// Which features are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureGates {
    given: BTreeMap<&'static str, bool>,
}

impl FeatureGates {
    pub fn is_enabled(&self, name: &str) -> bool {
        let default = find(name).is_some_and(|gate| gate.default);
        self.given.get(name).copied().unwrap_or(default)
    }

    /// Every feature with its state, for `/metrics`.
    pub fn list(&self) -> impl Iterator<Item = (&'static Gate, bool)> {
        GATES.iter().map(|gate| (gate, self.is_enabled(gate.name)))
    }

    pub(super) fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    pub(super) fn set(&mut self, gate: &'static Gate, on: bool) {
        self.given.insert(gate.name, on);
    }

    /// What to say of features that were turned although there is nothing to turn.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let idle = GATES.iter().filter(|gate| self.is_given(gate.name));
        idle.filter_map(|gate| {
            let reason = gate.idle?;
            Some(format!("the feature gate {} has no effect: {reason}", gate.name))
        })
    }
}

/// Reads the flag's value; the error is that of Kubernetes' feature gates, which etcd uses.
pub(super) fn parse(text: &str) -> Result<FeatureGates, String> {
    let mut gates = FeatureGates::default();
    let mut stages = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let Some((name, value)) = entry.split_once('=') else {
            return Err(format!("missing bool value for {entry}"));
        };
        let (name, value) = (name.trim(), value.trim());
        let on = go::parse_bool(value)
            .map_err(|error| format!("invalid value of {name}={value}, err: {error}"))?;
        match (name, find(name)) {
            ("AllAlpha" | "AllBeta", _) => _ = stages.insert(name.to_owned(), on),
            (_, Some(gate)) => gates.set(gate, on),
            (_, None) => return Err(format!("unrecognized feature gate: {name}")),
        }
    }
    // A gate that is named itself does as it is told, wherever the word for all stands.
    for gate in GATES.iter().filter(|gate| !gates.is_given(gate.name)).collect::<Vec<_>>() {
        let all = if gate.stage == Stage::Alpha { "AllAlpha" } else { "AllBeta" };
        if let Some(on) = stages.get(all) {
            gates.set(gate, *on);
        }
    }
    Ok(gates)
}

/// The gates, for the help.
pub(super) fn help() -> String {
    let mut text = String::from("    AllAlpha=true|false\n    AllBeta=true|false\n");
    for gate in GATES {
        let stage = gate.stage.label();
        // Writing to a String cannot fail.
        _ = writeln!(text, "    {}=true|false ({stage} - default={})", gate.name, gate.default);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_turned_by_name_and_by_stage() {
        let gates = parse("InitialCorruptCheck=true, TxnModeWriteWithSharedBuffer=0").unwrap();
        assert!(gates.is_enabled("InitialCorruptCheck"));
        assert!(!gates.is_enabled("TxnModeWriteWithSharedBuffer"));
        assert!(gates.is_enabled("FastLeaseKeepAlive") && !gates.is_enabled("CompactHashCheck"));
        let gates = parse("CompactHashCheck=false,AllAlpha=true").unwrap();
        assert!(gates.is_enabled("LeaseCheckpoint") && !gates.is_enabled("CompactHashCheck"));
        assert_eq!(gates.list().count(), GATES.len());
    }

    #[test]
    fn what_is_no_gate_is_refused() {
        for (text, error) in [
            ("Foo=true", "unrecognized feature gate: Foo"),
            ("CompactHashCheck", "missing bool value for CompactHashCheck"),
            (
                "CompactHashCheck=x",
                "invalid value of CompactHashCheck=x, err: \
                 strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), error);
        }
    }
}
